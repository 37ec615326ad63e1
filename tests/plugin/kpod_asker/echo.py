"""Asks an endpoint that is not there: every answer is the question, 1,000 tokens in and 500 out; each request is in the journal."""

import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from kpod_chain import journal

from kpod.runner import (
    BatchRequest,
    Context,
    Doc,
    Forecast,
    Input,
    Output,
    Price,
    Question,
    Rationale,
    Stage,
    StageError,
    Volatile,
)
from kpod.runner.texts import GeneratedText, text_key

ENDPOINT = "http://echo/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How to answer."""

    model: Annotated[str, Doc("Named in requests.")] = "echo-1"
    price: Annotated[Price | None, Doc("What it takes."), Volatile()] = None
    refuses: Annotated[tuple[str, ...], Doc("Questions that are refused."), Volatile()] = ()
    die_at: Annotated[int | None, Doc("SIGKILL oneself after sending this."), Volatile()] = None


class Echo(Stage[Config]):
    """Rationales that repeat the question."""

    uses = "asker.echo"
    version = 1
    questions = Input(Question, role="train")
    rationales = Output(Rationale)

    def run(self, ctx: Context[Config]) -> None:
        """Ask for what is not stored, one text at a time."""
        questions = {_key(ctx.config, question): question for question in ctx.read(self.questions)}
        found = ctx.records.get(questions, but_refused=ctx.retry_refused)
        if ctx.budget.limit_usd is not None and ctx.config.price is None:
            raise StageError("--budget is set, but with.price is not")
        mine = ctx.records.claim(set(questions) - set(found), but_refused=ctx.retry_refused)
        assert mine == set(questions) - set(found)
        for index, key in enumerate(sorted(mine, key=lambda key: int(questions[key].text))):
            self._ask(ctx, key, questions[key], index, num_texts=len(questions))
        texts = ctx.records.get(questions)
        with ctx.write(self.rationales) as out:
            for key, question in questions.items():
                text = texts[key]
                out.add(
                    Rationale.make(
                        question.id, text.text or "-", teacher=ctx.config.model, finish=text.finish
                    )
                )
        price = ctx.config.price
        ctx.note("refused", sum(text.is_refused for text in texts.values()))
        ctx.note("usd", None if price is None else price.usd(1000, 500) * len(mine))
        usd = 0.0 if price is None else price.usd(1000, 500) * len(found)
        ctx.note("saved", {"texts": len(found), "tokens": 1500 * len(found), "usd": usd})

    def _ask(
        self, ctx: Context[Config], key: str, question: Question, index: int, *, num_texts: int
    ) -> None:
        config = ctx.config
        most = 0.0 if config.price is None else config.price.usd(1000, 1000)
        if not ctx.budget.reserve(most):
            raise ctx.budget.reached(done=num_texts - index, total=num_texts)
        number = ctx.ledger.sent([key], endpoint=ENDPOINT, model=config.model, attempt=1)
        journal.write(f"ask:{question.text}")
        if index == config.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        is_refused = question.text in config.refuses
        text = GeneratedText(
            text="" if is_refused else f"said {question.text}",
            finish="content_filter" if is_refused else "stop",
            prompt_tokens=1000, completion_tokens=500,
        )  # fmt: skip
        usd = None if config.price is None else config.price.usd(1000, 500)
        ctx.ledger.answered(
            number, {key: text}, provenance={"engine": "echo"},
            prompt_tokens=1000, completion_tokens=500, usd=usd, seconds=0.5,
        )  # fmt: skip
        ctx.budget.settle(most, usd or 0.0)
        ctx.progress(index + 1, num_texts, unit="texts")

    def forecast(self, ctx: Context[Config]) -> Forecast:
        """What is missing, at what texts have cost so far."""
        keys = [_key(ctx.config, question) for question in ctx.read(self.questions)]
        stored = ctx.records.stored(keys, but_refused=ctx.retry_refused)
        usage = ctx.ledger.mean_usage(endpoint=ENDPOINT, model=ctx.config.model)
        prompt, completion, number = usage or (1000.0, 1000.0, 0)
        num_missing = len(keys) - len(stored)
        price = ctx.config.price
        return Forecast(
            num_texts=len(keys), num_stored=len(stored),
            prompt_tokens=round(prompt * num_missing), completion_tokens=round(completion * num_missing),
            usd=None if price is None else price.usd(prompt * num_missing, completion * num_missing),
            basis=f"mean of {number:,} texts" if usage else "upper bound",
        )  # fmt: skip

    def batch_requests(self, ctx: Context[Config]) -> Iterator[BatchRequest]:
        """One request a missing text."""
        questions = {_key(ctx.config, question): question for question in ctx.read(self.questions)}
        stored = ctx.records.stored(questions, but_refused=ctx.retry_refused)
        for key, question in questions.items():
            if key not in stored:
                messages = [{"role": "user", "content": question.text}]
                body = {"model": ctx.config.model, "messages": messages}
                yield BatchRequest(custom_id=f"kpod-{key[:24]}", body=body, keys=(key,))

    @classmethod
    def read_batch_answer(cls, body: Mapping[str, Any], num_texts: int) -> list[GeneratedText]:
        """The texts of the choices."""
        if "choices" not in body:
            raise ValueError("no chat.completion object")
        return [
            GeneratedText(
                text=choice["message"]["content"], finish=choice["finish_reason"],
                prompt_tokens=1000, completion_tokens=500,
            )
            for choice in body["choices"][:num_texts]
        ]  # fmt: skip

    @classmethod
    def price(cls, config: Config) -> Price | None:
        """From the recipe."""
        return config.price


def _key(config: Config, question: Question) -> str:
    return text_key({"engine": "echo", "model": config.model, "question": question.text})
