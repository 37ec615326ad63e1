"""The section "Errors" of the report: right answers by number of steps, and the step that breaks first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Breakpoint, Question
from kpod.runner.archive import Archive
from tests.stages.report_pages import (
    HOSTILE,
    FakeRun,
    Page,
    metric_of,
    predictions_of,
    questions_of,
    render,
    scored_run,
)

NOTES = {
    "questions_with_steps": 40, "questions_of_one_step": 10, "questions_without_solution": 9,
    "questions_without_gold": 0, "wrong": 6, "looked_at": 6, "broken_step_by_steps": {"3": {"1": 2}},
    "summary": "wrong on 6 of 40 with a reference",
}  # fmt: skip


def solved(questions: Sequence[Question], *, most: int = 4) -> list[Question]:
    """With 0 (none), 1, 2, … `most`, 0, 1, … steps in turn; the first step of the second is hostile."""
    return [
        replace(
            question,
            solution=" ".join(
                f"{HOSTILE if index == 1 else 'Ann'} has {step} eggs."
                for step in range(index % (most + 1))
            )
            or None,
        )
        for index, question in enumerate(questions)
    ]


def broken_run(
    folder: Path, breaks: Sequence[tuple[int, int | None]] | None = None, *, most: int = 4
) -> Archive:
    """Two arms on questions with solutions; one evaluate.first_error with (steps, broken step) of the second."""
    run = FakeRun(folder=folder, primary=["standard", "kpod"])
    test = solved(questions_of("test", number=50), most=most)
    run.add("questions", "data.table", {"test": test})
    for index, (arm, num_correct) in enumerate({"standard": 20, "kpod": 50}.items()):
        rows = predictions_of(test, f"model {arm}", num_correct=num_correct, seed=index)
        run.add(arm, "student.causal_lm", {"student": None}, digest=f"model {arm}")
        run.add(
            f"scores[{arm}]",
            "evaluate.accuracy",
            {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]},
            wires={"models": [f"{arm}.student"], "questions": ["questions.test"]},
        )
    if breaks is not None:
        rows_of = {
            "standard": [],
            "kpod": [
                Breakpoint(question_id=str(index), model="m", num_steps=steps, broken_step=broken)
                for index, (steps, broken) in enumerate(breaks)
            ],
        }
        for arm, found in rows_of.items():
            run.add(
                f"breaks[{arm}]",
                "evaluate.first_error",
                {"breakpoints": found},
                wires={"models": [f"{arm}.student"], "questions": ["questions.test"]},
                notes=NOTES,
            )
    return run.finish()


def section(page: Page) -> str:
    """The section's words; empty where there is none."""
    found = re.search(r'<section id="errors">.*?</section>', page.html, re.DOTALL)
    return Page(found[0]).text if found else ""


def test_right_answers_are_counted_by_the_steps_of_the_solution(tmp_path: Path) -> None:
    page, facts = render(broken_run(tmp_path))
    (found,) = facts["errors"]["by_steps"]

    assert (found["test_set"], found["groups"]) == ("scores", ["1", "2", "3", "4", "none"])
    shares = {arm["name"]: arm["shares"] for arm in found["arms"]}
    assert [(share["count"], share["total"]) for share in shares["kpod"]] == [(10, 10)] * 5
    assert sum(share["count"] for share in shares["standard"]) == 20
    assert [arm["is_primary"] for arm in found["arms"]] == [True, True]
    assert "Right answers by number of steps" in section(page)
    assert "1 step 2 steps 3 steps 4 steps No solution" in section(page)
    assert "10 of 10" in section(page)


def test_every_count_is_the_count_of_the_predictions(tmp_path: Path) -> None:
    archive = broken_run(tmp_path)
    _, facts = render(archive)
    (found,) = facts["errors"]["by_steps"]

    test = solved(questions_of("test", number=50))
    rows = predictions_of(test, "m", num_correct=20, seed=0)
    is_right = {row.question_id: bool(row.is_correct) for row in rows}
    expected = [
        sum(is_right[question.id] for question in test[number::5]) for number in (1, 2, 3, 4, 0)
    ]
    assert [share["count"] for share in found["arms"][0]["shares"]] == expected


def test_long_solutions_are_taken_together(tmp_path: Path) -> None:
    page, facts = render(broken_run(tmp_path, [(12, 9), (11, 10), (9, None)], most=12))
    (found,) = facts["errors"]["by_steps"]
    (broken,) = facts["errors"]["broken"]

    assert found["groups"] == [*map(str, range(1, 9)), "9 and on", "none"]
    assert "9 or more steps" in section(page)
    (row,) = broken["arms"][1]["rows"]
    assert (row["steps"], row["n"], row["broken"], row["never"]) == (
        "9 and on",
        3,
        [0] * 8 + [2],
        1,
    )


def test_the_step_that_breaks_first_is_told_by_the_length_of_the_solution(tmp_path: Path) -> None:
    breaks = [(4, 1), (4, 3), (4, 3), (2, 1), (3, None), (3, 2)]
    page, facts = render(broken_run(tmp_path, breaks))
    (broken,) = facts["errors"]["broken"]

    assert broken["name"] == "breaks"
    standard, kpod = broken["arms"]
    assert (standard["name"], standard["num_looked_at"], standard["rows"]) == ("standard", 0, [])
    assert kpod["places"] == ["1", "2", "3"]
    assert kpod["rows"] == [
        {"steps": "2", "n": 1, "broken": [1, None, None], "never": 0},
        {"steps": "3", "n": 2, "broken": [0, 1, None], "never": 1},
        {"steps": "4", "n": 3, "broken": [1, 0, 2], "never": 0},
    ]
    words = section(page)
    assert "standard : no wrong answer to look at." in words
    assert "kpod : 6 wrong answers by the number of steps of the solution" in words
    assert "Steps Wrong Step 1 Step 2 Step 3 Never 2 1 1 – – 0 3 2 0 1 – 1 4 3 1 0 2 0" in words
    assert "questions without solution 9" in words
    assert '<a href="#errors">Errors</a>' in page.html


def test_tables_are_named_for_those_who_cannot_see_the_shades(tmp_path: Path) -> None:
    page, _ = render(broken_run(tmp_path, [(3, 1)]))

    assert 'aria-label="right answers on scores by number of steps"' in page.html
    assert 'aria-label="the step that breaks first in the wrong answers of kpod"' in page.html


def test_a_run_whose_test_questions_have_no_solutions_has_no_such_section(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"standard": 30}))

    assert facts["errors"] == {"by_steps": [], "broken": []}
    assert section(page) == ""
    assert "#errors" not in page.html


@pytest.mark.parametrize("samples", [1, 2])
def test_questions_that_were_answered_several_times_are_not_counted_by_steps(
    tmp_path: Path, samples: int
) -> None:
    run = FakeRun(folder=tmp_path)
    test = solved(questions_of("test", number=10))
    run.add("questions", "data.table", {"test": test})
    rows: list[Any] = [
        replace(row, sample=sample)
        for row in predictions_of(test, "m", num_correct=5)
        for sample in range(samples)
    ]
    run.add("scores[a]", "evaluate.accuracy", {"predictions": rows, "metrics": [metric_of(rows, "m")]},
            wires={"questions": ["questions.test"]})  # fmt: skip
    _, facts = render(run.finish())

    assert len(facts["errors"]["by_steps"]) == (samples == 1)


def test_questions_without_gold_have_no_share(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    test = solved(questions_of("test", has_gold=False, number=10))
    run.add("questions", "data.table", {"test": test})
    rows = predictions_of(test, "m", num_correct=0)
    run.add("scores[a]", "evaluate.accuracy", {"predictions": rows, "metrics": [metric_of(rows, "m")]},
            wires={"questions": ["questions.test"]})  # fmt: skip
    page, facts = render(run.finish())

    (found,) = facts["errors"]["by_steps"]
    assert found["arms"][0]["shares"] == [None] * 5
    assert "a – – – – –" in section(page)
