"""What a pass over an endpoint came to: requests, failures, tokens, money and waiting times."""

from __future__ import annotations

import time
from array import array
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpod.stages.teacher._replies import Reply


class Tally:
    """Counts of one pass; it grows by eight bytes a request.

    Attributes:
        num_requests, num_answered: sent, and of them answered.
        num_shared: texts that another run asked for meanwhile.
        num_short: answers with fewer texts than were asked for.
        num_uncounted: answers without usage.
        failures: failed requests by reason.
        served: answers by the model that the server says it ran, where that is not the recipe's.
        prompt_tokens, completion_tokens: of the answers.
        usd: of the answers that have a price.
    """

    def __init__(self) -> None:
        self.num_requests = 0
        self.num_answered = 0
        self.num_shared = 0
        self.num_short = 0
        self.num_uncounted = 0
        self.failures: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.usd = 0.0
        self._seconds = array("d")
        self._started_at = time.monotonic()

    def count(self, reply: Reply, *, usd: float | None, seconds: float, asked: str) -> None:
        """One more answer.

        Args:
            reply: what came.
            usd: what it cost; None where that is not known.
            seconds: that it took.
            asked: the recipe's model.
        """
        self.num_answered += 1
        self.num_uncounted += reply.prompt_tokens is None or reply.completion_tokens is None
        if reply.model != asked:
            self.served[reply.model or "unnamed"] += 1
        self.prompt_tokens += reply.prompt_tokens or 0
        self.completion_tokens += reply.completion_tokens or 0
        self.usd += usd or 0.0
        self._seconds.append(seconds)

    @property
    def tokens_per_s(self) -> float:
        """Completion tokens a second since the pass began."""
        return self.completion_tokens / max(1e-9, time.monotonic() - self._started_at)

    def latency_s(self, share: float) -> float | None:
        """Seconds within which this share of the answers came; None without answers.

        Args:
            share: in [0, 1); 0.5 is the median.
        """
        ordered = sorted(self._seconds)
        return ordered[int(share * len(ordered))] if ordered else None
