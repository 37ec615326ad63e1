"""How often a model is right: greedy answers to held-out questions, each model asked with the prompt it was trained with.

Scores come with n and a 95 % interval, and beside the two rules of lm-eval, so that they can be compared with published ones
(PRACTICE 5). A text that was cut at the token limit is wrong, whatever it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Input,
    Metric,
    Model,
    Output,
    Prediction,
    Question,
    Stage,
    StageError,
)
from kpod.runner.capability import Capability, auto_precision
from kpod.stages._lm.answers import canonical, extract, matches
from kpod.stages._lm.artifact import ModelFiles, locate, read_spec
from kpod.stages._lm.completions import end_token_id
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.lm_eval_rules import flexible_is_correct, strict_is_correct
from kpod.stages._lm.prompts import Prompt, PromptConfig, encode_prompts
from kpod.stages._lm.statistics import wilson_interval

if TYPE_CHECKING:
    from kpod.runner.texts import GeneratedText


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How models are asked."""

    max_new_tokens: Annotated[
        int,
        Doc("Longest text, in the model's tokens; a longer one is cut and counts as wrong."),
        Ge(1),
    ] = 256
    base_prompt: Annotated[
        PromptConfig,
        Doc("The prompt of models that were not trained with one; others use their own."),
    ] = field(default_factory=PromptConfig)
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the model computes in; auto: bf16 where that is faster."),
    ] = "auto"
    batch_tokens: Annotated[
        int,
        Doc("Tokens of prompts and texts held at once: more is faster and takes more memory."),
        Ge(1),
    ] = 16384


class Accuracy(Stage[Config]):
    """Predictions and a score for every model."""

    uses = "evaluate.accuracy"
    version = 1
    libraries = ("peft", "torch", "transformers")
    models = Input(Model, each=True)
    questions = Input(Question, role="test")
    predictions = Output(Prediction)
    metrics = Output(Metric)

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision by the machine and the model's width."""
        if config.precision != "auto":
            return config
        chosen = auto_precision(capability, width=read_spec(models["models"]).width)
        return replace(config, precision=cast(Literal["fp32", "bf16"], chosen))

    def run(self, ctx: Context[Config]) -> None:
        """Ask the model every question once, and score what it says."""
        questions = list(ctx.read(self.questions))
        _check_gold(questions)
        files = locate(ctx, self.models)
        texts = _answers(ctx, files, questions)
        predictions = [
            prediction(question, text, model=files.digest)
            for question, text in zip(questions, texts, strict=True)
        ]
        metric = score(questions, predictions, model=files.digest, data=ctx.digest(self.questions))
        with ctx.write(self.predictions) as out:
            for one in predictions:
                out.add(one)
        with ctx.write(self.metrics) as out_metrics:
            out_metrics.add(metric)
        interval = {"accuracy": metric.accuracy, "low": metric.low, "high": metric.high}
        ctx.note("accuracy", {**interval, "n": metric.n})
        ctx.note("summary", _summary(metric))


def _answers(
    ctx: Context[Config], files: ModelFiles, questions: Sequence[Question]
) -> list[GeneratedText]:
    """What the model says to each question, asked with its own prompt."""
    from kpod.stages._lm.generation import Request
    from kpod.stages._lm.loading import load_tokenizer
    from kpod.stages._lm.speaking import write_texts

    config = ctx.config
    assert config.precision != "auto", "the runner resolves precision before a stage runs"
    own = files.spec.prompt
    prompt = config.base_prompt.resolve() if own is None else Prompt.from_json(own)
    tokenizer = load_tokenizer(files)
    requests = [
        Request(prompt_ids=tuple(ids), asked_by=question.id)
        for question, ids in zip(
            questions, encode_prompts(tokenizer, prompt, questions), strict=True
        )
    ]
    return write_texts(
        ctx, files, tokenizer, requests, Decoding(max_new_tokens=config.max_new_tokens),
        precision=config.precision, batch_tokens=config.batch_tokens,
        end_ids=frozenset({end_token_id(tokenizer, prompt)}),
    )  # fmt: skip


def _check_gold(questions: Sequence[Question]) -> None:
    """There is something to score, and every gold answer can be read.

    Raises:
        StageError: no questions, or gold answers that no text could ever match.
    """
    if not questions:
        raise StageError(
            "there are no questions to evaluate on; check the data stage's limit and split"
        )
    unreadable = [
        question
        for question in questions
        if question.answer is not None
        and canonical(question.answer, question.kind, question.choices) is None
    ]
    if unreadable:
        first = unreadable[0]
        raise StageError(
            f"question {first.id}: its gold answer {first.answer!r} cannot be read as {first.kind}"
            f" ({len(unreadable)} of {len(questions)} questions have such an answer), so no text could match it\n"
            "correct the data, or the kind that the data stage gives them"
        )


def prediction(question: Question, text: GeneratedText, *, model: str) -> Prediction:
    """What a text answers, and whether that is right; a text cut at the limit is wrong."""
    found = extract(text.text, question.kind, question.choices)
    is_correct = None
    if question.answer is not None:
        is_correct = text.finish == "stop" and matches(
            found, question.answer, question.kind, question.choices
        )
    return Prediction(
        question_id=question.id,
        model=model,
        sample=0,
        text=text.text,
        answer=None if found is None else found.value,
        is_correct=is_correct,
        rule=None if found is None else found.rule,
        num_tokens=text.completion_tokens,
        finish=text.finish,
    )


def score(
    questions: Sequence[Question], predictions: Sequence[Prediction], *, model: str, data: str
) -> Metric:
    """Scores of one model; questions without gold count for nothing but the shares of texts.

    Args:
        questions: at least one.
        predictions: one a question, in their order.
        model: content id of the model.
        data: content digest of the questions.
    """
    pairs = [
        (question, one)
        for question, one in zip(questions, predictions, strict=True)
        if one.is_correct is not None
    ]
    n, num_correct = len(pairs), sum(bool(one.is_correct) for _, one in pairs)
    interval = wilson_interval(num_correct, n) if n else None
    is_numeric = n > 0 and all(question.kind == "numeric" for question, _ in pairs)
    strict = [
        strict_is_correct(one.text, question.answer or "") for question, one in pairs if is_numeric
    ]
    flexible = [
        flexible_is_correct(one.text, question.answer or "")
        for question, one in pairs
        if is_numeric
    ]
    num_changed = sum(
        is_right != one.is_correct for is_right, (_, one) in zip(flexible, pairs, strict=False)
    )
    num_texts = len(predictions)
    return Metric(
        model=model,
        data=data,
        n=n,
        num_correct=num_correct,
        accuracy=num_correct / n if n else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        strict_frac=sum(strict) / n if is_numeric else None,
        flexible_frac=sum(flexible) / n if is_numeric else None,
        num_changed_by_extractor=num_changed if is_numeric else None,
        no_answer_frac=sum(one.answer is None for one in predictions) / num_texts,
        truncated_frac=sum(one.finish == "length" for one in predictions) / num_texts,
        mean_tokens=sum(one.num_tokens for one in predictions) / num_texts,
    )


def _summary(metric: Metric) -> str:
    """One line for the run's output: never a bare share."""
    if metric.accuracy is None:
        return "no gold answers, so no accuracy; predictions are kept"
    return f"accuracy {metric.accuracy:.2f} [{metric.low:.2f}, {metric.high:.2f}], n = {metric.n:,}"
