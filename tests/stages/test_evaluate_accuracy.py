"""evaluate.accuracy: each model's own prompt, honest scores."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Question, StageError
from kpod.runner.capability import Capability
from kpod.runner.texts import GeneratedText
from kpod.stages._lm.artifact import read_spec, write_spec
from kpod.stages._lm.prompts import PromptConfig, encode_prompt
from kpod.stages.evaluate._scoring import prediction, score
from kpod.stages.evaluate.accuracy import Accuracy, Config
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

CONFIG = Config(max_new_tokens=8, precision="fp32")


def _question(text: str, answer: str | None = "5", **facts: Any) -> Question:
    return Question.make(
        text, answer=answer, **{"kind": "numeric", "split": "test", "source": "test", **facts}
    )


QUESTIONS = [_question(f"Tom has {number} apples") for number in range(3, 9)]


def _context(
    folder: Path, questions: list[Question], root: Path | None = None
) -> FakeContext[Config]:
    return FakeContext(
        config=CONFIG, inputs={"questions": questions}, models={"models": folder}, root=root
    )


def _said(text: str, *, finish: Any = "stop", tokens: int = 4) -> GeneratedText:
    return GeneratedText(text=text, finish=finish, prompt_tokens=3, completion_tokens=tokens)


def _scored(questions: list[Question], texts: list[GeneratedText]) -> Any:
    predictions = [prediction(q, text, model="m") for q, text in zip(questions, texts, strict=True)]
    return score(questions, predictions, model="m", data="d")


def test_every_question_gets_a_prediction_and_the_model_one_metric() -> None:
    ctx = _context(tiny_model(), QUESTIONS)
    Accuracy().run(ctx)

    (metric,) = ctx.rows("metrics")
    digest = ctx.digest(Accuracy.models)
    assert [row.question_id for row in ctx.rows("predictions")] == [
        question.id for question in QUESTIONS
    ]
    assert {row.model for row in ctx.rows("predictions")} == {metric.model} == {digest}
    assert (metric.n, metric.data) == (len(QUESTIONS), ctx.digest(Accuracy.questions))
    assert ctx.notes["summary"] == (
        f"accuracy {metric.accuracy:.2f} [{metric.low:.2f}, {metric.high:.2f}], n = {metric.n}"
    )


def test_a_model_is_asked_with_the_prompt_it_was_trained_with(tmp_path: Path) -> None:
    own = PromptConfig(name="answer_only").resolve()
    folder = Path(shutil.copytree(tiny_model(), tmp_path / "student"))
    write_spec(folder, replace(read_spec(folder), prompt=own.to_json()))
    base, student = (
        _context(tiny_model(), QUESTIONS, tmp_path / "a"),
        _context(folder, QUESTIONS, tmp_path / "b"),
    )
    Accuracy().run(base)
    Accuracy().run(student)

    from kpod.stages._lm.loading import tokenizer_of_folder

    tokenizer = tokenizer_of_folder(folder)
    lengths = {
        name: len(encode_prompt(tokenizer, PromptConfig(name=name).resolve(), QUESTIONS[0]))  # type: ignore[arg-type]
        for name in ("cot", "answer_only")
    }
    told = [_prompt_lengths(ctx) for ctx in (base, student)]
    assert told == [{lengths["cot"]}, {lengths["answer_only"]}]
    assert lengths["cot"] != lengths["answer_only"]


def _prompt_lengths(ctx: FakeContext[Config]) -> set[int]:
    import sqlite3

    ctx.records.close()
    with sqlite3.connect(ctx.records._path) as connection:
        return {row[0] for row in connection.execute("SELECT prompt_tokens FROM texts")}


def test_a_second_evaluation_reads_stored_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, again = (_context(tiny_model(), QUESTIONS, tmp_path) for _ in range(2))
    Accuracy().run(first)
    monkeypatch.setattr("kpod.stages._lm.speaking.load_lm", None)
    Accuracy().run(again)

    assert again.outputs == first.outputs


def test_a_text_cut_at_the_limit_is_wrong_whatever_it_says() -> None:
    found = [
        prediction(QUESTIONS[0], _said("The answer is 5", finish=finish), model="m")
        for finish in ("stop", "length")
    ]

    assert [(one.answer, one.is_correct, one.finish) for one in found] == [
        ("5", True, "stop"),
        ("5", False, "length"),
    ]


def test_scores_are_counted_with_their_interval() -> None:
    texts = [
        "The answer is 5.",
        "#### 5",
        "It is 6.",
        "no idea",
        "5 or so. The answer is 4.",
        "The answer is 5 apples.",
    ]

    metric = _scored(QUESTIONS, [_said(text, tokens=length) for length, text in enumerate(texts)])

    assert (metric.n, metric.num_correct, metric.accuracy) == (6, 3, 0.5)
    # Wilson's interval of 3 of 6, by hand: (0.5 + z2/12 ± z sqrt(0.25/6 + z2/144)) / (1 + z2/6), z = 1.96.
    assert (round(metric.low, 4), round(metric.high, 4)) == (0.1876, 0.8124)
    assert (metric.strict_frac, metric.flexible_frac) == (1 / 6, 3 / 6)
    assert (metric.num_changed_by_extractor, metric.mean_tokens) == (0, 2.5)
    assert metric.no_answer_frac == 1 / 6


def test_verdicts_that_our_extractor_changes_are_counted() -> None:
    # The flexible rule takes the last number, 2; ours the stated answer.
    metric = _scored(QUESTIONS[:1], [_said("The answer is 5 (in 2 steps).")])

    assert (metric.num_correct, metric.flexible_frac, metric.num_changed_by_extractor) == (1, 0, 1)


def test_questions_without_gold_are_predicted_and_not_scored() -> None:
    questions = [QUESTIONS[0], _question("How many stars are there?", None)]

    metric = _scored(questions, [_said("The answer is 5"), _said("", finish="length")])

    assert (metric.n, metric.accuracy, metric.truncated_frac, metric.no_answer_frac) == (
        1,
        1.0,
        0.5,
        0.5,
    )


def test_without_any_gold_there_is_no_accuracy() -> None:
    ctx = _context(tiny_model(), [_question("How many stars are there?", None)])
    Accuracy().run(ctx)

    (metric,) = ctx.rows("metrics")
    assert (metric.n, metric.accuracy, metric.low, metric.strict_frac) == (0, None, None, None)
    assert ctx.notes["summary"] == "no gold answers, so no accuracy; predictions are kept"


def test_choice_questions_have_no_lm_eval_rules() -> None:
    question = _question("What is wet?", "B", kind="choice", choices=("fire", "water"))

    metric = _scored([question], [_said("The answer is B.")])

    assert (metric.accuracy, metric.strict_frac, metric.num_changed_by_extractor) == (
        1.0,
        None,
        None,
    )


def test_a_gold_answer_that_no_text_could_match_is_refused_by_question() -> None:
    question = _question("How many?", "a dozen or so")

    with pytest.raises(
        StageError,
        match=rf"question {question.id}: its gold answer 'a dozen or so' cannot be read as numeric",
    ):
        Accuracy().run(_context(tiny_model(), [*QUESTIONS, question]))


def test_an_empty_set_of_questions_is_refused() -> None:
    with pytest.raises(StageError, match="there are no questions to evaluate on"):
        Accuracy().run(_context(tiny_model(), []))


def test_precision_is_resolved_by_machine_and_width() -> None:
    machine = Capability(device="cpu", has_fast_bf16=True, memory_b=1, num_cpus=1, machine="x86_64")

    assert Accuracy.resolve(Config(), machine, {"models": tiny_model()}).precision == "fp32"
