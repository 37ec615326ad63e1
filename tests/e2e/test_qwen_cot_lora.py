"""The classic pipeline, run whole on files in its own formats: a small teacher that reasons, a small student, and what is exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Question, Rationale
from kpod.runner.archive import Archive
from kpod.runner.cli import main
from kpod.stages.data.word_problems import Config, WordProblems
from tests.e2e.recipes import BASE, executed, run
from tests.stages.fakes import FakeContext

pytestmark = pytest.mark.slow

NUM_TRAIN, NUM_TEST = 48, 32
# The shipped base reasons soundly over these forms, asked with the prompt that it was trained with.
FORMS = ("equation", "one_step")
TEACHER_PROMPT = "Q: {question} A: Let's think step by step."


def problems() -> tuple[list[Question], list[Question]]:
    """Questions to learn from and questions to be asked, none of which the base was trained on."""
    config = Config(num_train=NUM_TRAIN, num_validation=4, num_test=NUM_TEST, forms=FORMS, seed=11)
    ctx = FakeContext(config=config)
    WordProblems().run(ctx)
    return ctx.rows("train"), ctx.rows("test")


def lines(path: Path, questions: list[Question], *, has_gold: bool) -> Path:
    rows = [{"question": q.text, **({"answer": q.answer} if has_gold else {})} for q in questions]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def piped(folder: Path, *, has_gold: bool, settings: tuple[str, ...] = ()) -> Archive:
    """The recipe over raw_questions.jsonl and test_questions.jsonl; gold in neither or, as far as the test goes, in the second."""
    train, test = problems()
    raw = lines(folder / "raw_questions.jsonl", train, has_gold=False)
    asked = lines(folder / "test_questions.jsonl", test, has_gold=has_gold)
    models = [f"stages.{stage}.with={{folder: {BASE}}}" for stage in ("teacher_lm", "student_lm")]
    return run(
        "qwen_cot_lora",
        folder / "runs",
        (
            *models, f"stages.questions.with.train={raw}", f"stages.questions.with.test={asked}",
            f"stages.rationales.with.prompt.template={json.dumps(TEACHER_PROMPT)}", "stages.rationales.with.max_new_tokens=64",
            "stages.scores.with.max_new_tokens=48", "stages.scores.with.precision=fp32", "stages.rationales.with.precision=fp32",
            *settings,
        ),
    )  # fmt: skip


def exported(archive: Archive, form: str, to: Path) -> list[dict[str, Any]]:
    assert main(["export", str(archive.folder), "--as", form, "--to", str(to)]) == 0
    return [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]


def test_the_classic_pipeline_runs_end_to_end_on_files_with_gold_in_the_test(
    tmp_path: Path,
) -> None:
    archive = piped(tmp_path, has_gold=True)

    said = list(archive.read(archive.units["rationales"], "rationales", Rationale))
    student = archive.units["student"].manifest
    assert len(said) >= NUM_TRAIN - 1
    assert archive.units["verified"].manifest.notes["kept"] >= 32
    assert len(student.notes["losses"]) == 3
    assert student.notes["losses"][-1] < student.notes["losses"][0]
    assert archive.units["student"].config["precision"] == "nf4"
    for arm in ("student_lm", "student"):
        assert archive.units[f"scores[{arm}]"].manifest.notes["accuracy"]["n"] == NUM_TEST
    cot = exported(archive, "cot", tmp_path / "cot_dataset.jsonl")
    predictions = exported(archive, "predictions", tmp_path / "predictions.jsonl")
    train, test = problems()
    assert len(cot) == archive.units["verified"].manifest.notes["kept"]
    assert {row["question"] for row in cot} <= {question.text for question in train}
    assert [row["gold_answer"] for row in predictions] == [question.answer for question in test]
    assert (archive.folder / "report.html").exists()


def test_without_any_gold_it_leaves_predictions_and_no_accuracy(tmp_path: Path) -> None:
    settings = ("stages.student.with.precision=fp32",)
    archive = piped(tmp_path, has_gold=False, settings=settings)

    scores = archive.units["scores[student]"].manifest
    predictions = exported(archive, "predictions", tmp_path / "predictions.jsonl")
    assert scores.notes["accuracy"]["accuracy"] is None
    assert "no gold answers" in scores.notes["summary"]
    assert len(predictions) == NUM_TEST
    assert {row["gold_answer"] for row in predictions} == {None}
    assert (archive.folder / "report.html").exists()

    again = piped(tmp_path, has_gold=False, settings=settings)
    assert executed(again) == []
