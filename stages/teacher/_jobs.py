"""What is still to be asked: texts that are in no store, each claimed before it is asked, so that two runs ask each once."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpod.runner.texts import TextStore

# Few enough that two runs share the work between them, many enough that a transaction each costs nothing.
_CLAIMED_AT_ONCE = 32
_POLLED_AT_ONCE = 2_000  # texts of other runs looked for at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Missing samples of one question: what one request asks for.

    Args:
        index: of the ask.
        samples: their numbers, from 0.
        keys: their names in the record store, one a sample.
        num_failed: attempts that failed and count.
        num_sent: requests sent for it.
        answers_before: answers that the pass had when it was first sent; None before.
        answers_at_failure: answers that the pass had when it last failed.
    """

    index: int
    samples: tuple[int, ...]
    keys: tuple[str, ...]
    num_failed: int = 0
    num_sent: int = 0
    answers_before: int | None = None
    answers_at_failure: int = -1

    def part(self, start: int, stop: int | None = None) -> Job:
        """The job with some of its samples."""
        return replace(self, samples=self.samples[start:stop], keys=self.keys[start:stop])

    def only(self, keys: set[str]) -> Job:
        """The job with those of its samples whose keys these are."""
        kept = [(s, key) for s, key in zip(self.samples, self.keys, strict=True) if key in keys]
        return replace(self, samples=tuple(s for s, _ in kept), keys=tuple(key for _, key in kept))


class Jobs:
    """Jobs in the order they are asked: those that failed and have waited, then those that are claimed, then new ones.

    Args:
        store: where texts are looked up and claimed.
        jobs: no key twice.
        but_refused: refused texts count as missing.
        per_request: most samples a request; None: all of a job.
    """

    def __init__(
        self, store: TextStore, jobs: Iterable[Job], *, but_refused: bool, per_request: int | None
    ) -> None:
        self.per_request = per_request
        self._store = store
        self._but_refused = but_refused
        self._new = deque(jobs)
        self._ready: deque[Job] = deque()
        self._failed: list[tuple[float, int, Job]] = []
        self._num_failed = 0
        self._elsewhere: deque[Job] = deque()
        self._held: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, here or elsewhere."""
        return not (self._new or self._ready or self._failed or self._elsewhere)

    @property
    def waits_elsewhere(self) -> bool:
        """Whether all that is left is being asked by another run."""
        return bool(self._elsewhere) and not (self._new or self._ready or self._failed)

    def next(self, now: float) -> Job | None:
        """The next job that may be asked, claimed; None where there is none yet."""
        if self._failed and self._failed[0][0] <= now:
            return self._cut(heapq.heappop(self._failed)[2])
        while not self._ready and self._new:
            some = [self._new.popleft() for _ in range(min(_CLAIMED_AT_ONCE, len(self._new)))]
            self._claim(some)
        return self._cut(self._ready.popleft()) if self._ready else None

    def due_in(self, now: float) -> float | None:
        """Seconds until a failed job may be asked again; None where there is none."""
        return max(0.0, self._failed[0][0] - now) if self._failed else None

    def put_first(self, job: Job) -> None:
        """Ask this one next."""
        self._ready.appendleft(job)

    def put_back(self, job: Job, *, at: float) -> None:
        """Ask this one again from that time on."""
        self._num_failed += 1
        heapq.heappush(self._failed, (at, self._num_failed, job))

    def drop(self, keys: Iterable[str]) -> None:
        """These are answered: the store has released them."""
        self._held.difference_update(keys)

    def poll(self) -> int:
        """Look for what other runs were asking; returns how many of their texts are there now.

        What no living run asks any more becomes ours.
        """
        some: list[Job] = []
        num_keys = 0
        while self._elsewhere and num_keys < _POLLED_AT_ONCE:
            some.append(self._elsewhere.popleft())
            num_keys += len(some[-1].keys)
        wanted = {key for job in some for key in job.keys}
        missing = wanted - set(self._store.get(wanted, but_refused=self._but_refused))
        left = [job.only(missing) for job in some]
        self._claim([job for job in left if job.keys])
        return len(wanted) - len(missing)

    def release(self) -> None:
        """Give back what was claimed and not answered."""
        if self._held:
            self._store.release(sorted(self._held))
            self._held.clear()

    def _claim(self, jobs: list[Job]) -> None:
        """Sort jobs into ours and those that another run asks."""
        wanted = [key for job in jobs for key in job.keys]
        ours = self._store.claim(wanted, but_refused=self._but_refused) if wanted else set()
        self._held |= ours
        for job in jobs:
            mine, theirs = job.only(ours), job.only(set(job.keys) - ours)
            if mine.keys:
                self._ready.append(mine)
            if theirs.keys:
                self._elsewhere.append(theirs)

    def _cut(self, job: Job) -> Job:
        """No more samples than a request may ask for; the rest comes next."""
        most = self.per_request or len(job.keys)
        if len(job.keys) > most:
            self._ready.appendleft(job.part(most))
        return job.part(0, most)
