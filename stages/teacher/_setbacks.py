"""Requests that brought nothing: what each means for its question, its server and the whole pass."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from kpod.stages.teacher._endings import Reached, answers_nothing, refused_us
from kpod.stages.teacher._limits import Pace, backoff_s

if TYPE_CHECKING:
    from kpod.stages.teacher._jobs import Job, Jobs
    from kpod.stages.teacher._key import Key
    from kpod.stages.teacher._replicas import Replica, Replicas
    from kpod.stages.teacher._replies import Failure
    from kpod.stages.teacher._tally import Tally


class Setbacks:
    """Takes failures, puts their jobs back, slows their servers down.

    Args:
        jobs: where jobs go back to.
        replicas: the servers.
        tally: counts the failures; tells how much was answered meanwhile.
        key, model: for messages.
        pace: how much is borne.
        question_id: whose a job is.

    Attributes:
        refused: why a question could not be asked, by its id.
    """

    def __init__(
        self,
        jobs: Jobs,
        replicas: Replicas,
        tally: Tally,
        *,
        key: Key,
        model: str,
        pace: Pace,
        question_id: Callable[[Job], str],
    ) -> None:
        self.refused: dict[str, str] = {}
        self._jobs = jobs
        self._replicas = replicas
        self._tally = tally
        self._key = key
        self._model = model
        self._pace = pace
        self._question_id = question_id
        self._draw = random.Random()  # noqa: S311 - jitter; two runs must not wait in step

    def take(
        self, job: Job, replica: Replica, failure: Failure, *, sent_at: float, reached: Reached
    ) -> Exception | None:
        """One failure; returns why the pass must end, or None.

        Args:
            job: what was asked.
            replica: who was asked.
            failure: what came instead.
            sent_at: when it was asked.
            reached: how far the pass is, for messages.
        """
        now = time.monotonic()
        self._tally.failures[failure.reason] += 1
        if failure.is_lost:
            replica.lost(sent_at=sent_at, now=now)
        if failure.then == "later":
            replica.window.cut(sent_at=sent_at, now=now)
        if failure.retry_after_s is not None:
            replica.leave_alone(failure.retry_after_s, now=now)
        if failure.then == "stop":
            return refused_us(
                failure, url=replica.url, key=self._key, model=self._model, reached=reached
            )
        if failure.then == "question":
            self._refuse(job, failure.reason, failure.says)
            return None
        return self._try_again(job, failure, now=now, reached=reached)

    def _try_again(
        self, job: Job, failure: Failure, *, now: float, reached: Reached
    ) -> Exception | None:
        """Put a job back, or give up: on it, or on an endpoint that answers nothing.

        Being told to come later counts only while nobody else is answered: a slow account is no reason to give up.
        """
        num_answered = self._tally.num_answered
        counts = failure.then == "again" or job.answers_at_failure == num_answered
        job = replace(job, num_failed=job.num_failed + counts, answers_at_failure=num_answered)
        is_spent = job.num_failed >= self._pace.max_attempts
        is_silent = is_spent and job.answers_before == num_answered
        if is_silent or self._replicas.num_lost >= self._pace.max_attempts:
            urls = [replica.url for replica in self._replicas.all]
            return answers_nothing(
                failure, urls=urls, attempts=self._pace.max_attempts, reached=reached
            )
        if is_spent:
            reason = f"{job.num_failed} attempts failed, the last with {failure.reason}"
            self._refuse(job, reason, failure.says)
            return None
        wait_s = backoff_s(max(1, job.num_failed), first_s=self._pace.first_wait_s, draw=self._draw)
        self._jobs.put_back(job, at=now + wait_s)
        return None

    def _refuse(self, job: Job, reason: str, says: str) -> None:
        """A question that cannot be asked: told at the end, when all others are stored."""
        hint = (
            "; a server that knows no n wants samples_per_request: 1" if len(job.keys) > 1 else ""
        )
        said = f": {says}" if says else ""
        self.refused[self._question_id(job)] = f"{reason}{said}{hint}"
