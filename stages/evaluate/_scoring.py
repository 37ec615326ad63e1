"""What evaluate.accuracy does when it runs: asks a model, reads its answers, counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpod.runner import Context, Metric, Prediction, Question, StageError
from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.completions import end_token_id
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.family import family
from kpod.stages._lm.judging import judged
from kpod.stages._lm.lm_eval_rules import flexible_is_correct, strict_is_correct
from kpod.stages._lm.prompts import Prompt, model_inputs, question_text
from kpod.stages._lm.statistics import wilson_interval

if TYPE_CHECKING:
    from kpod.runner.texts import GeneratedText
    from kpod.stages._lm.examples import Example
    from kpod.stages.evaluate._asking import Config


def said(
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
    examples = config.base_examples if own is None else ()
    tokenizer = load_tokenizer(files)
    check_unasked(examples, questions)
    sent = model_inputs(tokenizer, prompt, questions, family=family(files.spec), examples=examples)
    requests = [
        Request(prompt_ids=tuple(ids), asked_by=question.id)
        for question, ids in zip(questions, sent, strict=True)
    ]
    decoding = Decoding(
        max_new_tokens=config.max_new_tokens, stop=config.base_stop if own is None else ()
    )
    return write_texts(
        ctx, files, tokenizer, requests, decoding,
        precision=config.precision, quantisation=config.quantisation, batch_tokens=config.batch_tokens,
        end_ids=frozenset({end_token_id(tokenizer, prompt)}),
    )  # fmt: skip


def check_unasked(examples: Sequence[Example], questions: Sequence[Question]) -> None:
    """No example is one of the questions, which it would answer.

    Raises:
        StageError: one is, after case and white space are evened out.
    """
    asked = {_even(text): question for question in questions for text in _wordings(question)}
    for number, example in enumerate(examples, start=1):
        question = asked.get(_even(example.question))
        if question is not None:
            raise StageError(
                f"base_examples: example {number} is question {question.id} of the questions asked: {question.text!r}\n"
                "take another example, or the question out of the test data"
            )


def _wordings(question: Question) -> set[str]:
    """The question with and without its lettered choices."""
    return {question.text, question_text(question)}


def _even(text: str) -> str:
    return " ".join(text.casefold().split())


def prediction(question: Question, text: GeneratedText, *, model: str) -> Prediction:
    """What a text answers, and whether that is right; a text cut at the limit is wrong."""
    found, is_correct = judged(question, text)
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


def summary(metric: Metric) -> str:
    """One line for the run's output: never a bare share."""
    if metric.accuracy is None:
        return "no gold answers, so no accuracy; predictions are kept"
    return f"accuracy {metric.accuracy:.2f} [{metric.low:.2f}, {metric.high:.2f}], n = {metric.n:,}"
