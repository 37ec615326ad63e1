"""The course of teacher.openai: what is stored, what is missing, asking for that, and rationales from all of it.

Prompts and texts are handled a few hundred at a time, so that memory does not grow with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpod.runner import BatchRequest, StageError
from kpod.stages.teacher._asking import Asking
from kpod.stages.teacher._endings import Reached
from kpod.stages.teacher._form import Asked, Form, Messages, request_id
from kpod.stages.teacher._jobs import Job, Jobs
from kpod.stages.teacher._key import Key, read_key
from kpod.stages.teacher._limits import Pace
from kpod.stages.teacher._prompt import Ask, AskPrompt, messages
from kpod.stages.teacher._rationales import Thinking, rationales_of
from kpod.stages.teacher._replicas import Replica, Replicas
from kpod.stages.teacher._served import check_served
from kpod.stages.teacher._tally import Tally

if TYPE_CHECKING:
    from kpod.runner import Context, Rationale
    from kpod.stages.teacher.openai import Config

_AT_ONCE = 256  # prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """All that a stage asks.

    Args:
        form: of the requests.
        prompt: the wording.
        asks: in the order of the questions.
        samples: texts an ask.
        per_request: most samples a request; None: all.
    """

    form: Form
    prompt: AskPrompt
    asks: Sequence[Ask]
    samples: int
    per_request: int | None

    @property
    def num_texts(self) -> int:
        """Of the whole stage."""
        return len(self.asks) * self.samples

    def messages(self, index: int) -> Messages:
        """The chat of an ask."""
        return messages(self.prompt, self.asks[index])

    def keys(self, index: int) -> tuple[str, ...]:
        """The names of an ask's texts."""
        return self.form.keys(self.messages(index), samples=self.samples)

    def asked(self, index: int) -> Asked:
        """An ask, as the pass needs it."""
        return Asked(self.asks[index].question.id, self.messages(index))

    def groups(self) -> Iterator[range]:
        """Indexes of the asks, some at a time."""
        for start in range(0, len(self.asks), _AT_ONCE):
            yield range(start, min(start + _AT_ONCE, len(self.asks)))


@dataclass(slots=True)
class Stock:
    """What the store holds of a course.

    Attributes:
        jobs: what is missing; a text that two asks share stands in one of them.
        num_missing: different texts that are missing.
        num_saved, prompt_tokens, completion_tokens: of the texts that are stored.
    """

    jobs: list[Job]
    num_missing: int = 0
    num_saved: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


def take_stock(ctx: Context[Any], course: Course) -> Stock:
    """Look every text up; refused ones count as missing where they are to be asked again."""
    stock = Stock([])
    missing: set[str] = set()
    for group in course.groups():
        keys = {index: course.keys(index) for index in group}
        names = {name for some in keys.values() for name in some}
        stored = ctx.records.get(names, but_refused=ctx.retry_refused)
        for index, some in keys.items():
            found = [stored[key] for key in some if key in stored]
            stock.num_saved += len(found)
            stock.prompt_tokens += sum(text.prompt_tokens for text in found)
            stock.completion_tokens += sum(text.completion_tokens for text in found)
            left = [
                (i, key) for i, key in enumerate(some) if key not in stored and key not in missing
            ]
            if left:
                samples, wanted = zip(*left, strict=True)
                missing.update(wanted)
                stock.jobs.append(Job(index=index, samples=samples, keys=wanted))
    stock.num_missing = len(missing)
    return stock


def ask_missing(ctx: Context[Config], course: Course, stock: Stock) -> tuple[Tally, dict[str, str]]:
    """Ask for what is missing until it is stored; where nothing is, neither server nor key is needed.

    Returns:
        What it came to; and why a server's list of models could not be read, by URL.

    Raises:
        StageError: a budget without a price, or no key; and as `check_served` and `Asking.run`.
    """
    if not stock.jobs:
        return Tally(), {}
    config = ctx.config
    if ctx.budget.limit_usd is not None and config.price is None:
        raise StageError(
            "--budget is set, but what this endpoint takes is not known\n"
            "set with.price: {input: …, output: …} in USD a million tokens, or leave --budget out"
        )
    return asyncio.run(_ask(ctx, course, stock, read_key(config.urls, config.api_key_env)))


async def _ask(
    ctx: Context[Config], course: Course, stock: Stock, key: Key
) -> tuple[Tally, dict[str, str]]:
    config = ctx.config
    num_stored = course.num_texts - stock.num_missing
    replicas = _replicas(config.urls, key=key, concurrency=config.concurrency)
    pace = Pace(
        requests_per_minute=config.requests_per_minute, tokens_per_minute=config.tokens_per_minute,
        deadline_s=config.deadline_s, max_attempts=config.max_attempts, first_wait_s=config.first_wait_s,
    )  # fmt: skip
    try:
        unchecked: dict[str, str] = {}
        if config.check_model:
            unchecked = await check_served(
                replicas, model=config.model, key=key, deadline_s=config.deadline_s,
                reached=Reached(num_stored, course.num_texts),
            )  # fmt: skip
        jobs = Jobs(
            ctx.records, stock.jobs, but_refused=ctx.retry_refused, per_request=course.per_request
        )
        asking = Asking(
            ctx, form=course.form, asked=course.asked, jobs=jobs, replicas=replicas, key=key, pace=pace,
            endpoint=config.provider, price=config.price, num_texts=course.num_texts, num_stored=num_stored,
        )  # fmt: skip
        await asking.run()
        return asking.tally, unchecked
    finally:
        for replica in replicas.all:
            await replica.client.close()


def _replicas(urls: Sequence[str], *, key: Key, concurrency: int) -> Replicas:
    """The servers, each with the official client: it sends once, and the deadline and the next attempt are ours."""
    from openai import AsyncOpenAI

    return Replicas(
        [
            Replica(
                url,
                AsyncOpenAI(base_url=url, api_key=key.value or "none", max_retries=0, timeout=None),
                concurrency=concurrency,
            )
            for url in urls
        ],
        concurrency=concurrency,
    )


@dataclass(slots=True)
class Written:
    """What the texts of a stage came to.

    Attributes:
        rationales: different texts.
        prompt_tokens, completion_tokens: of all texts, whenever they were paid.
        truncated, refused: texts cut at the limit, and texts that say nothing or were filtered.
    """

    rationales: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    truncated: int = 0
    refused: int = 0


def write_rationales(
    ctx: Context[Any],
    course: Course,
    add: Callable[[Rationale], None],
    *,
    teacher: str,
    thinking: Thinking | None,
) -> Written:
    """Rationales from the stored texts, in the order of the asks; every text must be stored.

    Args:
        ctx: gives the store.
        course: what was asked.
        add: takes each.
        teacher: who wrote them.
        thinking: "keep" leaves thoughts in.
    """
    written = Written()
    for group in course.groups():
        keys = [key for index in group for key in course.keys(index)]
        stored = ctx.records.get(keys)
        texts = [stored[key] for key in keys]
        written.prompt_tokens += sum(text.prompt_tokens for text in texts)
        written.completion_tokens += sum(text.completion_tokens for text in texts)
        written.truncated += sum(text.finish == "length" for text in texts)
        written.refused += sum(text.is_refused for text in texts)
        asks = [course.asks[index] for index in group]
        for rationale in rationales_of(
            asks, texts, samples=course.samples, teacher=teacher, thinking=thinking
        ):
            add(rationale)
            written.rationales += 1
    return written


def batch_requests(ctx: Context[Any], course: Course) -> Iterator[BatchRequest]:
    """The requests for what is missing, as live ones would be sent."""
    for job in take_stock(ctx, course).jobs:
        most = course.per_request or len(job.keys)
        for start in range(0, len(job.keys), most):
            part = job.part(start, start + most)
            yield BatchRequest(
                custom_id=request_id(part.keys),
                body=course.form.body(course.messages(part.index), part.samples),
                keys=part.keys,
            )
