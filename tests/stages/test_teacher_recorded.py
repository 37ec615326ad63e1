"""Rationales from files: any format, columns by name, joined by the text of the question."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import LocalFile, Question, Rationale, StageError
from kpod.stages.teacher.recorded import Columns, Config, Recorded
from tests.stages.fakes import FakeContext

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def question(text: str, **changes: Any) -> Question:
    kind = changes.pop("kind", "numeric")
    return Question.make(text, kind=kind, answer="1", split="train", source="test", **changes)


ONE, TWO = question("How many ducks?"), question("How many eggs?")
ROWS = [
    {"question": " How many ducks?\n", "rationale": "One duck."},
    {"question": "How many ducks?", "rationale": "One duck. "},
    {"question": "How many ducks?", "rationale": ["A drake too.", "None."]},
]


def jsonl(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "teacher.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def run(path: Path, *, questions: tuple[Question, ...] = (ONE, TWO), **settings: Any) -> FakeContext[Config]:  # fmt: skip
    config = Config(path=str(path), **settings)
    ctx = FakeContext(config=config, inputs={"questions": questions}, sources={"path": path})
    Recorded().run(ctx)
    return ctx


def test_rows_are_joined_by_text_and_equal_texts_become_one_with_a_count(tmp_path: Path) -> None:
    ctx = run(jsonl(tmp_path, ROWS), label="gpt")

    expected = [
        Rationale.make(ONE.id, "One duck.", teacher="gpt", count=2),
        Rationale.make(ONE.id, "A drake too.", teacher="gpt"),
        Rationale.make(ONE.id, "None.", teacher="gpt"),
    ]
    assert expected == ctx.rows("rationales")
    assert ctx.notes == {
        "texts": 4,
        "empty": 0,
        "unknown_questions": 0,
        "duplicates": 1,
        "over_limit": 0,
        "rationales": 3,
        "questions_without_rationale": 1,
        "summary": "3 rationales for 1 of 2 questions, from 4 texts",
    }


def test_the_limit_takes_the_first_different_texts_of_the_file(tmp_path: Path) -> None:
    ctx = run(jsonl(tmp_path, ROWS), per_question=2)

    assert [r.text for r in ctx.rows("rationales")] == ["One duck.", "A drake too."]
    assert ctx.notes["over_limit"] == 1


@pytest.mark.parametrize("suffix", ["json", "csv", "parquet"])
def test_the_same_rows_give_the_same_rationales_in_every_format(
    tmp_path: Path, suffix: str
) -> None:
    rows = [{"q": "How many ducks?", "text": "One, \"said\" he\nand went."}, {"q": "How many eggs?", "text": "Two."}]  # fmt: skip
    path = tmp_path / f"teacher.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif suffix == "csv":
        path.write_text(
            'q,text\nHow many ducks?,"One, ""said"" he\nand went."\nHow many eggs?,Two.\n',
            encoding="utf-8",
        )
    else:
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    ctx = run(path, columns=Columns(question="q", rationale="text"))

    assert [row["text"] for row in rows] == [r.text for r in ctx.rows("rationales")]


def test_a_dotted_column_goes_into_nested_objects(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"question": ONE.text, "175b": {"solution": "One."}}])
    ctx = run(path, columns=Columns(rationale="175b.solution"))

    assert [r.text for r in ctx.rows("rationales")] == ["One."]


def test_the_key_is_made_from_the_content_of_the_file() -> None:
    assert Recorded.sources(Config(path="/a/b.jsonl")) == {
        "path": LocalFile(
            "/a/b.jsonl",
            "the recipe's comments may say where it comes from; name another file with --set stages.ID.with.path=FILE",
        )
    }


def test_an_unknown_question_is_an_error_with_file_and_line(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [*ROWS, {"question": "How many foxes?", "rationale": "Two."}])
    with pytest.raises(StageError) as caught:
        run(path)

    assert str(caught.value) == (
        f"{path}:4: no question has the text 'How many foxes?'\n"
        "  allowed: the texts of the 2 questions of the input questions\n"
        "  check columns.question, or set unknown_questions: count where the file covers more than this split"
    )


def test_unknown_questions_and_empty_texts_are_counted_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    rows = [{"question": "How many foxes?", "rationale": "Two."}, {"question": ONE.text, "rationale": " "}]  # fmt: skip
    ctx = run(jsonl(tmp_path, ROWS + rows), unknown_questions="count")

    assert (ctx.notes["unknown_questions"], ctx.notes["empty"]) == (1, 1)


def test_a_missing_column_is_an_error_that_lists_the_columns(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"question": ONE.text, "rational": "One."}])
    with pytest.raises(StageError, match=r"teacher.jsonl:1: no column 'rationale'\n.*question, rational\n"):  # fmt: skip
        run(path)


def test_a_cut_line_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = jsonl(tmp_path, ROWS)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(StageError, match=r"teacher.jsonl:3: not JSON"):
        run(path)


def test_a_rationale_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [{"question": ONE.text, "rationale": 7}])
    with pytest.raises(StageError, match=r":1: column 'rationale' holds int '7'"):
        run(path)


def test_a_file_without_rows_is_an_error(tmp_path: Path) -> None:
    path = jsonl(tmp_path, [])
    with pytest.raises(StageError, match=re.escape(f"{path}: none of 0 texts is a rationale for one of 2 questions")):  # fmt: skip
        run(path)


def test_a_text_that_two_questions_share_is_never_joined_by_guessing(tmp_path: Path) -> None:
    twins = (
        question("Which?", kind="choice", choices=["a", "b"]),
        question("Which?", kind="choice", choices=["c", "d"]),
    )
    path = jsonl(tmp_path, [{"question": "Which?", "rationale": "One."}])
    with pytest.raises(StageError, match=r":1: two questions have the text 'Which\?'"):
        run(path, questions=twins)


def test_rows_with_the_choices_under_the_question_tell_twins_apart(tmp_path: Path) -> None:
    twins = (
        question("Which?", kind="choice", choices=["a", "b"]),
        question("Which?", kind="choice", choices=["c", "d"]),
    )
    rows = [{"question": "Which? Answer Choices:\nA. c\nB. d\n", "rationale": "It is d."}]
    ctx = run(jsonl(tmp_path, rows), questions=twins)

    assert [r.question_id for r in ctx.rows("rationales")] == [twins[1].id]
    assert ctx.notes["summary"] == "1 rationales for 1 of 2 questions, from 1 texts"


def test_the_real_rationales_of_svamp_join_to_their_651_questions() -> None:
    path = SHARED / "svamp_gpt35" / "train.json"
    if not path.exists():
        pytest.skip("needs shared/data/svamp_gpt35/train.json beside the checkout")
    rows = json.loads(path.read_text(encoding="utf-8"))
    questions = {row["input"].strip(): question(row["input"]) for row in rows}
    ctx = run(
        path,
        questions=tuple(questions.values()),
        columns=Columns(question="input", rationale="chain"),
        per_question=1,
    )

    assert len(questions) == 651
    assert len(ctx.rows("rationales")) == 651
    assert ctx.notes["texts"] == 1953
