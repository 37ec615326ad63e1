"""A test set without questions: told before anybody is asked or trained for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner import StageError
from tests.runner.test_contamination import School

SCORES = {
    "uses": "evaluate.accuracy",
    "in": {"models": ["words"], "questions": "questions.test"},
    "with": {"max_new_tokens": 1},
}


def test_a_test_set_without_questions_is_told_before_the_teacher_is_asked(tmp_path: Path) -> None:
    rows: list[dict[str, str]] = []
    session = School(folder=tmp_path, stages={"scores": SCORES}).session()

    with pytest.raises(StageError, match="holds no question to evaluate on") as caught:
        session.run([rows.append])
    session.store.close()

    finished = [row["id"] for row in rows if row["event"] == "stage_finished"]
    assert "questions" in finished
    assert "rationales" not in finished
    assert str(caught.value) == (
        "questions.test (data.table, read by scores) holds no question to evaluate on\n"
        "allowed: at least one\n"
        "give the stage questions a test set (`kpod stages data.table` says how), or let scores read others:"
        " in: {questions: ID.OUTPUT}"
    )


def test_a_run_that_stops_before_the_evaluation_needs_no_test_set(tmp_path: Path) -> None:
    school = School(folder=tmp_path, stages={"scores": SCORES})
    session = school.session()
    session.store.close()
    from kpod.runner.session import RunOptions, Session

    until = Session(
        tmp_path / "recipe.yaml", RunOptions(runs=tmp_path / "runs", until="rationales")
    )
    archive = until.run()
    until.store.close()

    assert "rationales" in archive.units
