"""How fast an endpoint may be asked: requests at once, requests and tokens a minute, and how long to wait after a failure.

Nothing here looks at a clock: the time is handed in, in seconds of a monotonic clock.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_LONGEST_WAIT_S = 60.0  # a minute is the usual window of a provider's limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How an endpoint is asked; none of it can change a text.

    Args:
        requests_per_minute, tokens_per_minute: limits of the account, or None.
        deadline_s: of a request.
        max_attempts: failures of a question that are borne.
        first_wait_s: bound of the wait after the first failure.
    """

    requests_per_minute: int | None
    tokens_per_minute: int | None
    deadline_s: float
    max_attempts: int
    first_wait_s: float


class Window:
    """How many requests a server is given at once.

    One more after a whole round of answers, half as many when the server says that it is too much. A request that was sent
    before the last halving says nothing new, so that one overload, which fails many requests, halves once.
    Source: additive increase and multiplicative decrease, Chiu and Jain 1989; once a round trip, Jacobson 1988.

    Args:
        most: >= 1; where it starts, and what it never exceeds.
    """

    def __init__(self, most: int) -> None:
        self.limit = float(most)
        self.num_open = 0
        self._most = most
        self._cut_at = float("-inf")

    @property
    def is_free(self) -> bool:
        """Whether one more request may be sent."""
        return self.num_open < max(1, int(self.limit))

    def grow(self) -> None:
        """A request was answered."""
        self.limit = min(float(self._most), self.limit + 1 / self.limit)

    def cut(self, *, sent_at: float, now: float) -> None:
        """A request that was sent at that time was too much."""
        if sent_at >= self._cut_at:
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = now


class Bucket:
    """An allowance a minute that refills steadily (a token bucket); one second of it may be used at once.

    A single request may cost more than the bucket holds: it is then in debt, and the next one waits.

    Args:
        per_minute: > 0, or None: no limit.
        now: where time begins.
    """

    def __init__(self, per_minute: float | None, *, now: float) -> None:
        self._per_s = None if per_minute is None else per_minute / 60
        self._burst = 0.0 if self._per_s is None else max(1.0, self._per_s)
        self._level = self._burst
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until something may be taken; 0 where it may be now."""
        if self._per_s is None:
            return 0.0
        self._level = min(self._burst, self._level + (now - self._at) * self._per_s)
        self._at = now
        return max(0.0, (1.0 - self._level) / self._per_s) if self._level < 1 - 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Use a part of the allowance."""
        self._level -= amount

    def give_back(self, amount: float) -> None:
        """Undo a part of what was taken: it was estimated too high."""
        self._level = min(self._burst, self._level + amount)


def backoff_s(attempt: int, *, first_s: float, draw: random.Random) -> float:
    """How long to wait before the next attempt: anywhere between nothing and a bound that doubles, up to a minute.

    Args:
        attempt: of how many attempts failed, >= 1.
        first_s: the first bound, in seconds.
        draw: where the jitter comes from.

    Source: "full jitter", Brooker 2015, Exponential Backoff And Jitter (AWS Architecture Blog).
    """
    return draw.uniform(0, min(_LONGEST_WAIT_S, first_s * 2.0 ** min(attempt - 1, 30)))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """How long a server asks us to wait, in seconds; None where it does not say, or not so that it can be read.

    A date is compared with the server's own (header Date), so that a wrong clock on either side does not matter.
    Source: RFC 9110, section 10.2.3; retry-after-ms is OpenAI's and Azure's.
    """
    for name, unit_s in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            wait_s = float(headers[name]) * unit_s
        except (KeyError, ValueError):
            continue
        if 0 <= wait_s < float("inf"):
            return wait_s
    until, now = _date(headers.get("retry-after")), _date(headers.get("date"))
    if until is None:
        return None
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _date(text: str | None) -> datetime | None:
    """An HTTP date; None where there is none that can be read."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
