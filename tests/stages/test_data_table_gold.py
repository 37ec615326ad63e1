"""Tables with and without gold answers, as raw_questions.jsonl and test_questions.jsonl have them, and what a filter keeps of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Question, Rationale, StageError
from kpod.stages.data._splits import Limit
from kpod.stages.data.table import Columns, Config, Table
from kpod.stages.filter.verified import Config as FilterConfig
from kpod.stages.filter.verified import Verified, Vote
from tests.stages.fakes import FakeContext

OPTIONAL = Columns(answer_optional=True)


def answers(tmp_path: Path, rows: list[dict[str, Any]], columns: Columns) -> list[str | None]:
    """The gold answers of a file of test questions."""
    path = tmp_path / "test_questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = Config(test=str(path), columns=columns)
    ctx = FakeContext(config=config, sources={"test": path})
    Table().run(ctx)
    return [question.answer for question in ctx.rows("test")]


def test_a_missing_answer_column_is_an_error_unless_the_recipe_says_otherwise(
    tmp_path: Path,
) -> None:
    rows = [{"question": "How many?"}, {"question": "How much?", "answer": 12}]

    with pytest.raises(
        StageError,
        match=r"no column 'answer'\n(.*\n)*.* or set columns\.answer_optional: true where",
    ):
        answers(tmp_path, rows, Columns())
    assert answers(tmp_path, rows, OPTIONAL) == [None, "12"]


def test_an_optional_answer_in_an_object_is_missing_only_where_the_object_is(
    tmp_path: Path,
) -> None:
    columns = Columns(answer="gold.value", answer_optional=True)

    assert answers(tmp_path, [{"question": "How many?"}], columns) == [None]
    with pytest.raises(StageError, match=r"no column 'gold\.value'"):
        answers(tmp_path, [{"question": "How many?", "gold": {"valeu": 3}}], columns)


@pytest.mark.parametrize(("gold", "is_kept"), [("18", True), ("17", False), (None, True)])
def test_one_greedy_text_is_judged_by_gold_and_kept_for_its_answer_where_there_is_none(
    gold: str | None, *, is_kept: bool
) -> None:
    question, other = (
        Question.make(text, kind="numeric", answer=answer, split="train", source="table")
        for text, answer in (("How many?", gold), ("How much?", None))
    )
    texts = {question: "9 * 2 = 18.\nFinal Answer: 18", other: "1 + 1 = 2.\nFinal Answer: 2"}
    ctx = FakeContext(
        config=FilterConfig(vote=Vote(min_samples=1, min_share=0)),
        inputs={
            "questions": list(texts),
            "rationales": [Rationale.make(q.id, t, teacher="t") for q, t in texts.items()],
        },
    )
    Verified().run(ctx)

    kept = {row.question_id: (row.text, row.answer) for row in ctx.rows("verified")}
    assert (question.id in kept) == is_kept
    assert kept[other.id] == ("1 + 1 = 2.", "2")


def test_gold_answers_that_no_text_could_match_are_told_at_their_lines_before_anybody_is_asked(
    tmp_path: Path,
) -> None:
    golds = ["12", "a dozen", "", None, "1,200", "-3.5", "x = 4 or 5", "1/2", "none of it", "??"]
    rows = [{"question": f"Which of {n}?", "answer": gold} for n, gold in enumerate(golds)]

    with pytest.raises(StageError) as caught:
        answers(tmp_path, rows, Columns())

    told = str(caught.value).splitlines()
    path = tmp_path / "test_questions.jsonl"
    assert told[0] == "got 4 gold answers that cannot be read:"
    assert told[1:4] == [
        f"  {path}:{line}: {gold!r} for a question of kind numeric"
        for line, gold in ((2, "a dozen"), (7, "x = 4 or 5"), (9, "none of it"))
    ]
    assert told[4] == "  and 1 more"
    assert "one number (numeric)" in told[5]


def test_gold_answers_beyond_the_limit_are_nobody_s_concern(tmp_path: Path) -> None:
    rows = [{"question": f"Which of {n}?", "answer": n} for n in range(20)]
    kept = {row.id for row in _first_ten(tmp_path, rows)}
    for row in rows:
        if Question.make(row["question"], kind="numeric", answer="1", split="test", source="table").id not in kept:  # fmt: skip
            row["answer"] = "many"

    assert {row.id for row in _first_ten(tmp_path, rows)} == kept


def _first_ten(tmp_path: Path, rows: list[dict[str, Any]]) -> list[Question]:
    path = tmp_path / "test_questions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ctx = FakeContext(config=Config(test=str(path), limit=Limit(test=10)), sources={"test": path})
    Table().run(ctx)
    found = ctx.rows("test")
    assert len(found) == 10
    return found
