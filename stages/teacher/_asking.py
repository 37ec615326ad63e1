"""One pass over an endpoint: every missing text asked for once, at the pace that the servers take, stored as it comes.

All state lives in one loop: it sends what may be sent, sleeps until a request ends or a wait is over, and sends again. A
request stands in the ledger before it is sent and is closed in the transaction that stores its texts, so that a kill at
any moment costs at most the requests in flight. Source: DESIGN 5 and 9.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson

from kpod.runner import Interrupted
from kpod.stages.teacher._endings import Reached, refused_questions
from kpod.stages.teacher._form import Asked, Form
from kpod.stages.teacher._jobs import Job, Jobs
from kpod.stages.teacher._limits import Bucket, Pace
from kpod.stages.teacher._replies import Failure, Reply, failure_in, failure_of, read_reply
from kpod.stages.teacher._setbacks import Setbacks
from kpod.stages.teacher._tally import Tally

if TYPE_CHECKING:
    from kpod.runner import Context, Price
    from kpod.stages.teacher._key import Key
    from kpod.stages.teacher._replicas import Replica, Replicas

_POLL_S = 0.25  # how often we look whether to stop
_POLL_ELSEWHERE_S = 0.5  # how often we look for what another run is asking
_TELL_EVERY_S = 1.0


class Asking:
    """A pass. `run` it once.

    Args:
        ctx: gives store, ledger and budget, hears of progress.
        form: of the requests.
        asked: by index of the jobs.
        jobs: what is missing.
        replicas: the servers.
        key: which of its environment variables a refusal is about.
        pace: how they are asked.
        endpoint: name of the servers in the ledger, or None: the URL of each.
        price: of a token, or None.
        num_texts, num_stored: texts of the stage, and those that were stored before.
    """

    def __init__(
        self,
        ctx: Context[Any],
        *,
        form: Form,
        asked: Callable[[int], Asked],
        jobs: Jobs,
        replicas: Replicas,
        key: Key,
        pace: Pace,
        endpoint: str | None,
        price: Price | None,
        num_texts: int,
        num_stored: int,
    ) -> None:
        now = time.monotonic()
        self.tally = Tally()
        self._ctx = ctx
        self._form = form
        self._asked = asked
        self._jobs = jobs
        self._replicas = replicas
        self._key = key
        self._pace = pace
        self._endpoint = endpoint
        self._price = price
        self._num_texts = num_texts
        self._num_done = num_stored
        self._requests = Bucket(pace.requests_per_minute, now=now)
        self._tokens = Bucket(pace.tokens_per_minute, now=now)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._setbacks = Setbacks(
            jobs, replicas, self.tally, key=key, model=form.model, pace=pace,
            question_id=lambda job: asked(job.index).question_id,
        )  # fmt: skip
        self._end: Exception | None = None
        self._is_over_budget = False
        self._num_ended = 0
        self._told_at = self._polled_at = now

    async def run(self) -> None:
        """Ask until every text is stored.

        Raises:
            StageError: the endpoint refuses us or is not there; or questions that it refuses, after all others are stored.
            BudgetReached: what is left costs more than the budget has.
            Interrupted: the run was asked to stop; requests in flight were waited for.
        """
        try:
            await self._loop()
            await self._drain()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._jobs.release()
        if self._end is not None:
            raise self._end
        if self._setbacks.refused:
            raise refused_questions(self._setbacks.refused)

    async def _loop(self) -> None:
        """Send and wait, until nothing is left, or there is a reason to end."""
        while self._end is None and not (self._jobs.is_empty and not self._tasks):
            self._wake.clear()
            self._tell()
            if self._ctx.should_stop or self._end is not None:
                break
            self._look_elsewhere()
            if (wait_s := self._send_some()) == 0:
                await asyncio.sleep(0)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _drain(self) -> None:
        """Wait for what is in flight, for it is paid: no longer than a deadline, which ends every request."""
        until = time.monotonic() + self._pace.deadline_s
        while self._tasks and time.monotonic() < until:
            await asyncio.wait(self._tasks, timeout=max(0.0, until - time.monotonic()))
        if self._end is None and not (self._jobs.is_empty and not self._tasks):
            self._ctx.progress(self._num_done, self._num_texts, unit="texts")

    def _send_some(self) -> float:
        """As many as have ended, and one more: what starts together ends together and idles together. Returns as `_send_one`."""
        wait_s, may_send, self._num_ended = 0.0, 1 + self._num_ended, 0
        while wait_s == 0 and may_send:
            wait_s = self._send_one()
            may_send -= 1
        return wait_s

    def _send_one(self) -> float:
        """Send one request, if one may be sent: 0; else seconds after which to look again."""
        now = time.monotonic()
        if self._is_over_budget:
            if not self._tasks:
                self._end = self._ctx.budget.reached(done=self._num_done, total=self._num_texts)
            return _POLL_S
        wait_s = max(self._requests.wait_s(now), self._tokens.wait_s(now))
        if wait_s:
            return min(_POLL_S, wait_s)
        replica = self._replicas.pick(now)
        if replica is None:
            return min(_POLL_S, self._replicas.opens_in_s(now))
        job = self._jobs.next(now)
        if job is None:
            due_s = self._jobs.due_in(now)
            return _POLL_S if due_s is None else min(_POLL_S, max(due_s, 1e-3))
        if not self._start(job, replica):
            self._jobs.put_first(job)
            self._is_over_budget = True
        return 0.0

    def _start(self, job: Job, replica: Replica) -> bool:
        """Send a job on its way; False where the budget does not bear what it may cost."""
        messages = self._asked(job.index).messages
        most = self._form.most_tokens(messages, num_texts=len(job.keys))
        reserved = 0.0 if self._price is None else self._price.usd(*most)
        if not self._ctx.budget.reserve(reserved):
            return False
        self._requests.take(1)
        self._tokens.take(sum(most))
        replica.window.num_open += 1
        if job.answers_before is None:
            job = replace(job, answers_before=self.tally.num_answered)
        job = replace(job, num_sent=job.num_sent + 1)
        body = self._form.body(messages, job.samples)
        task = asyncio.create_task(
            self._attempt(job, replica, body, reserved_usd=reserved, reserved_tokens=sum(most))
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return True

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._num_ended += 1
        self._wake.set()
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._end = self._end or error

    async def _attempt(
        self,
        job: Job,
        replica: Replica,
        body: dict[str, Any],
        *,
        reserved_usd: float,
        reserved_tokens: int,
    ) -> None:
        """One request, from the ledger's first line of it to its last."""
        sent_at = time.monotonic()
        spent_usd: float | None = reserved_usd
        try:
            number = self._ctx.ledger.sent(
                job.keys, endpoint=self._endpoint or replica.url, model=self._form.model, attempt=job.num_sent
            )  # fmt: skip
            self.tally.num_requests += 1
            found = await self._ask(replica, body, num_texts=len(job.keys))
            seconds = time.monotonic() - sent_at
            if isinstance(found, Failure):
                self._ctx.ledger.failed(number, reason=found.reason, seconds=seconds)
                spent_usd = reserved_usd if found.may_be_paid else 0.0
                end = self._setbacks.take(
                    job,
                    replica,
                    found,
                    sent_at=sent_at,
                    reached=Reached(self._num_done, self._num_texts),
                )
                self._end = self._end or end
                used = 0
            else:
                spent_usd = self._answered(job, replica, found, number=number, seconds=seconds)
                used = (found.prompt_tokens or 0) + (found.completion_tokens or 0)
            self._tokens.give_back(max(0, reserved_tokens - used))
        finally:
            replica.window.num_open -= 1
            self._ctx.budget.settle(reserved_usd, reserved_usd if spent_usd is None else spent_usd)
            self._is_over_budget = False

    async def _ask(
        self, replica: Replica, body: dict[str, Any], *, num_texts: int
    ) -> Reply | Failure:
        """What the server says to a request; it has until the deadline."""
        try:
            async with asyncio.timeout(self._pace.deadline_s):
                said = await replica.client.post("/chat/completions", cast_to=str, body=body)
            answer = orjson.loads(said)
            return failure_in(answer, key=self._key.value) or read_reply(
                answer, num_texts=num_texts
            )
        except Exception as error:  # noqa: BLE001 - what is no failure of the endpoint is raised again
            return failure_of(error, key=self._key.value)

    def _answered(
        self, job: Job, replica: Replica, reply: Reply, *, number: int, seconds: float
    ) -> float | None:
        """Store what came, put the rest back; returns what it cost, None where that is not known."""
        keys = job.keys[: len(reply.texts)]
        is_counted = reply.prompt_tokens is not None and reply.completion_tokens is not None
        tokens = (reply.prompt_tokens or 0, reply.completion_tokens or 0)
        usd = self._price.usd(*tokens) if self._price is not None and is_counted else None
        self._ctx.ledger.answered(
            number,
            dict(zip(keys, reply.texts, strict=True)),
            provenance={"model": reply.model, "endpoint": replica.url},
            prompt_tokens=tokens[0],
            completion_tokens=tokens[1],
            usd=usd,
            seconds=seconds,
        )
        self._jobs.drop(keys)
        replica.answered()
        self._num_done += len(keys)
        self.tally.count(reply, usd=usd, seconds=seconds, asked=self._form.model)
        if len(keys) < len(job.keys):
            self.tally.num_short += 1
            self._jobs.per_request = 1
            self._jobs.put_first(job.part(len(keys)))
        return usd

    def _look_elsewhere(self) -> None:
        """Now and then, when nothing of ours waits: what have other runs stored, or left?"""
        now = time.monotonic()
        if self._jobs.waits_elsewhere and now - self._polled_at >= _POLL_ELSEWHERE_S:
            self._polled_at = now
            num_found = self._jobs.poll()
            self._num_done += num_found
            self.tally.num_shared += num_found

    def _tell(self) -> None:
        """Tell the run how far we are, once a second. Being stopped is not raised before what is in flight has ended."""
        now = time.monotonic()
        if self._ctx.should_stop or now - self._told_at < _TELL_EVERY_S:
            return
        self._told_at = now
        try:
            self._ctx.progress(
                self._num_done, self._num_texts, unit="texts", in_flight=len(self._tasks), waits_s=round(self._replicas.wait_s(now), 1),
                tokens_per_s=round(self.tally.tokens_per_s, 1),
            )  # fmt: skip
        except Interrupted as stopped:
            self._end = stopped
