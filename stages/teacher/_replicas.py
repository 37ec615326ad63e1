"""The servers behind a model: asked in turn, each at its own pace, left alone while they are not there.

A server that is lost three times in a row rests, twice as long each time, and is then probed by one request at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpod.stages.teacher._limits import Window

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# Our choices: one lost connection is weather, three in a row are not; a server that was started again is found in a minute.
_LOST_BEFORE_REST = 3
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 60.0


class Replica:
    """One server.

    Args:
        url: its base URL.
        client: asks it, once a call.
        concurrency: most requests at once.
    """

    def __init__(self, url: str, client: AsyncOpenAI, *, concurrency: int) -> None:
        self.url = url
        self.client = client
        self.window = Window(concurrency)
        self.num_lost = 0
        self.num_answered = 0
        self._closed_until = float("-inf")
        self._lost_at = float("-inf")

    @property
    def _is_free(self) -> bool:
        if self.num_lost >= _LOST_BEFORE_REST:
            return self.window.num_open == 0
        return self.window.is_free

    def wait_s(self, now: float) -> float:
        """Seconds until it may be asked again; 0 where it may be now, or as soon as a request ends."""
        return max(0.0, self._closed_until - now)

    def may_be_asked(self, now: float) -> bool:
        """Whether one more request may be sent."""
        return self._is_free and self._closed_until <= now

    def answered(self) -> None:
        """A request was answered."""
        self.num_answered += 1
        self.num_lost = 0
        self.window.grow()

    def leave_alone(self, wait_s: float, *, now: float) -> None:
        """It asked for that."""
        self._closed_until = max(self._closed_until, now + wait_s)

    def lost(self, *, sent_at: float, now: float) -> None:
        """A request found no server, or lost it; those that were sent before the last such one count with it."""
        if sent_at < self._lost_at:
            return
        self._lost_at = now
        self.num_lost += 1
        times = self.num_lost - _LOST_BEFORE_REST
        if times >= 0:
            rest_s = min(_LONGEST_REST_S, _FIRST_REST_S * 2.0 ** min(times, 30))
            self.leave_alone(rest_s, now=now)


class Replicas:
    """All servers, at least one; together they hold no more requests than `concurrency`."""

    def __init__(self, replicas: Sequence[Replica], *, concurrency: int) -> None:
        self.all = list(replicas)
        self._concurrency = concurrency
        self._next = 0

    @property
    def num_open(self) -> int:
        """Requests in flight."""
        return sum(replica.window.num_open for replica in self.all)

    @property
    def num_lost(self) -> int:
        """How many times in a row every one of them was lost, at least."""
        return min(replica.num_lost for replica in self.all)

    def pick(self, now: float) -> Replica | None:
        """The next in turn that may be asked; None where none may."""
        if self.num_open >= self._concurrency:
            return None
        for step in range(len(self.all)):
            index = (self._next + step) % len(self.all)
            if self.all[index].may_be_asked(now):
                self._next = index + 1
                return self.all[index]
        return None

    def wait_s(self, now: float) -> float:
        """Seconds until one may be asked again, as far as that is a matter of time."""
        return min(replica.wait_s(now) for replica in self.all)

    def opens_in_s(self, now: float) -> float:
        """Seconds until one that is closed opens; infinity where none is."""
        waits = (replica.wait_s(now) for replica in self.all)
        return min((wait_s for wait_s in waits if wait_s > 0), default=float("inf"))
