"""Cells of a table, its columns, and the questions that they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import HubRepository, Question, SettingError, StageError
from kpod.stages.data import table
from kpod.stages.data._cells import (
    Choices,
    answer_text,
    choice_letter,
    choice_texts,
    choices_in_text,
)
from tests.stages.data_files import (
    MCC_KD,
    ran,
    sizes,
    write_lines,
    write_parquet,
)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (51.0, "numeric", "51"),
        (0.5, "numeric", "0.5"),
        ("1,080", "numeric", "1080"),
        ("12.00", "numeric", "12"),
        ("1/2", "numeric", "1/2"),
        (7, "numeric", "7"),
        ("", "numeric", None),
        (None, "text", None),
        (True, "yesno", "yes"),
        ("No", "yesno", "no"),
        (" 1,080 ", "text", "1,080"),
    ],
)
def test_an_answer_cell_becomes_a_text(value: Any, kind: Any, text: str | None) -> None:
    assert answer_text(value, kind, "f:1") == text


@pytest.mark.parametrize("value", [[1], {"a": 1}, float("nan"), float("inf")])
def test_an_answer_that_is_no_text_is_refused(value: Any) -> None:
    with pytest.raises(StageError, match="f:1: got the answer"):
        answer_text(value, "numeric", "f:1")


@pytest.mark.parametrize(
    "value", ["a|b", ["a"], [1, 2], {"label": ["A"], "text": ["a", "b"]}, None, {}]
)
def test_choices_of_another_form_are_refused(value: Any) -> None:
    with pytest.raises(StageError, match="f:1: got the choices"):
        choice_texts(value, "f:1")


def test_a_choice_is_named_by_its_label_or_its_text() -> None:
    choices = Choices(("red", "blue"), ("1", "2"))

    assert [choice_letter(answer, choices, "f:1") for answer in ("2", "red", None)] == [
        "B",
        "A",
        None,
    ]
    with pytest.raises(
        StageError, match=r"got the answer 'C', which is none of the choices\n.*1 \(red\), 2"
    ):
        choice_letter("C", choices, "f:1")


def test_a_table_maps_its_columns(tmp_path: Path) -> None:
    row = {"body": "He has 3.", "ask": "How many?", "gold": {"value": 3.0}, "why": "3 = 3."}
    path = write_lines(tmp_path / "t.jsonl", [row, {**row, "why": "Other."}])
    columns = table.Columns(question=("body", "ask"), answer="gold.value", solution="why")
    ctx = ran(table.Table, table.Config(train="x", columns=columns, validation_frac=0), train=path)

    assert ctx.rows("train") == [
        Question.make("He has 3. How many?", kind="numeric", answer="3", split="train", source="table",
                      solution="3 = 3.")
    ]  # fmt: skip
    assert ctx.notes["rows_merged"] == 1


def test_a_table_has_choices_in_one_column_or_in_several(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("q,answer,a,b\nWhat?,blue,red,blue\n", encoding="utf-8")
    columns = table.Columns(question=("q",), choices=("a", "b"))
    config = table.Config(test="x", columns=columns, kind="choice")
    ctx = ran(table.Table, config, test=path)

    assert [(q.answer, q.choices) for q in ctx.rows("test")] == [("B", ("red", "blue"))]


def test_a_table_reads_choices_that_stand_under_the_question(tmp_path: Path) -> None:
    """The form of MCC-KD's CommonsenseQA; the question is the one that data.commonsense_qa makes."""
    row = {"instruction": "What did they do? Answer Choices:\nA. ignore\nB. enforce it\n", "output": "", "label": "B"}  # fmt: skip
    path = tmp_path / "test.json"
    path.write_text(json.dumps([row]), encoding="utf-8")
    config = table.Config(test="x", columns=MCC_KD, kind="choice")
    (made,) = ran(table.Table, config, test=path).rows("test")

    expected = Question.make(
        "What did they do?", kind="choice", answer="B", choices=["ignore", "enforce it"], split="test", source="table"
    )  # fmt: skip
    assert expected == made


@pytest.mark.parametrize(
    "text", ["Which?", "Which? Answer Choices:\nA. a\nC. c", "Answer Choices:\nA. a\nB. b", "Which? Answer Choices: A. a B. b"]
)  # fmt: skip
def test_a_text_that_ends_in_no_choices_is_told(text: str) -> None:
    with pytest.raises(StageError, match=r"f:1: got the question .*, which ends in no choices"):
        choices_in_text(text, "f:1")


def test_a_table_without_gold_answers_has_none(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "t.jsonl", [{"question": "Why?"}])
    columns = table.Columns(answer=None)
    ctx = ran(table.Table, table.Config(test="x", columns=columns, kind="text"), test=path)

    assert [q.answer for q in ctx.rows("test")] == [None]


def test_a_table_on_the_hub_is_found_by_its_subset(tmp_path: Path) -> None:
    write_parquet(
        tmp_path / "easy" / "train-00000-of-00001.parquet", [{"question": "1?", "answer": 1}]
    )
    config = table.Config(hub="me/mine", subset="easy", validation_frac=0)

    assert sizes(ran(table.Table, config, hub=tmp_path)) == (1, 0, 0)
    assert table.Table.sources(config) == {"hub": HubRepository("me/mine", "dataset", None)}


@pytest.mark.parametrize("question", ["", "  ", None, 5])
def test_a_table_row_without_a_question_is_told(tmp_path: Path, question: Any) -> None:
    path = write_lines(tmp_path / "t.jsonl", [{"question": question, "answer": "1"}])
    with pytest.raises(StageError, match=r"t\.jsonl:1: got the question"):
        ran(table.Table, table.Config(train="x"), train=path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "train: no questions are named; name a file in 'train' or 'test', or set 'hub'"),
        ({"validation": "v"}, "train: no questions are named"),
        ({"hub": "a/b", "train": "t"}, "hub: files are named as well"),
        ({"train": "t", "subset": "main"}, "subset: it needs 'hub'"),
        (
            {"train": "t", "columns": table.Columns(choices=("c",))},
            "'choices' and kind numeric do not",
        ),
    ],
)
def test_settings_of_a_table_that_do_not_go_together_are_refused(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        table.Config(**settings)
