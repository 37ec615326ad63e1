"""The real sets, where they are here, and files in the schema of MCC-KD: their sizes and what they share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.stages.data import commonsense_qa, gsm8k, svamp, table
from kpod.stages.data._splits import Limit
from kpod.stages.teacher import recorded
from tests.stages.data_files import (
    MCC_KD,
    ran,
    shared,
    sizes,
)
from tests.stages.fakes import FakeContext


def mcc_kd(folder: Path, **sizes: int) -> dict[str, Path]:
    """Split files in the schema of MCC-KD; train has a list of texts or one text a question."""
    files = {}
    for split, size in sizes.items():
        rows = [
            {
                "instruction": f"{split} {n}: Danny has {n} caps. How many?\n",
                "output": "" if split != "train" else [f"{n} + 0 = {n}.", f"Just {n}."] if n % 2 else f"He has {n}.",
                "label": str(n),
            }
            for n in range(size)
        ]  # fmt: skip
        files[split] = folder / f"{split}.json"
        files[split].write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return files


def test_statement_29_files_of_the_mcc_kd_schema_are_read_as_questions_and_as_rationales(
    tmp_path: Path,
) -> None:
    files = mcc_kd(tmp_path, train=7, validation=3, test=2)
    names = {split: str(path) for split, path in files.items()}
    ctx = ran(table.Table, table.Config(columns=MCC_KD, **names), **files)  # type: ignore[arg-type]

    assert sizes(ctx) == (7, 3, 2)
    assert [q.answer for q in ctx.rows("validation")] == ["0", "1", "2"]
    columns = recorded.Columns(question="instruction", rationale="output")
    texts: FakeContext[Any] = FakeContext(
        config=recorded.Config(path="x", columns=columns),
        inputs={"questions": ctx.rows("train")},
        sources={"path": files["train"]},
    )
    recorded.Recorded().run(texts)
    written = [(r.question_id, r.text) for r in texts.rows("rationales")]
    assert len(written) == 4 + 2 * 3
    assert (ctx.rows("train")[1].id, "1 + 0 = 1.") in written
    assert texts.notes["questions_without_rationale"] == 0


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("GSM8K", "numeric", (7473, 660, 659)),
        ("ASDiv", "numeric", (1462, 313, 314)),
        ("SVAMP", "numeric", (700, 150, 150)),
        ("CSQA", "choice", (8520, 1221, 1221)),
    ],
)
def test_statement_29_the_published_splits_have_their_sizes_where_they_are_here(
    name: str, kind: Any, expected: tuple[int, int, int]
) -> None:
    folder = shared(f"mcc_kd/{name}")
    files = {split: folder / f"{file}.json" for split, file in (("train", "train"), ("validation", "dev"), ("test", "test"))}  # fmt: skip
    names = {split: str(path) for split, path in files.items()}
    ctx = ran(table.Table, table.Config(columns=MCC_KD, kind=kind, **names), **files)  # type: ignore[arg-type]

    rows = sum(sizes(ctx)) + ctx.notes["rows_merged"]
    assert rows == sum(expected)
    assert sizes(ctx)[1:] == expected[1:]


def test_real_gsm8k_is_whole_and_shares_no_question() -> None:
    ctx = ran(gsm8k.Gsm8k, gsm8k.Config(path="x"), path=shared("gsm8k"))
    train, validation, test = sizes(ctx)

    assert (train + validation, test) == (7473, 1319)
    assert abs(validation - 747) < 78  # three standard deviations
    assert (ctx.notes["rows_merged"], ctx.notes["overlap_removed"]) == (0, 0)
    assert all(q.answer.lstrip("-").isdigit() for q in ctx.rows("train"))


def test_real_svamp_has_the_sizes_of_mcc_kd() -> None:
    ctx = ran(svamp.Svamp, svamp.Config(path="x"), path=shared("svamp"))

    assert sizes(ctx) == (700, 150, 150)
    assert all(q.answer.isdigit() for q in ctx.rows("test"))


def test_real_commonsense_qa_has_five_choices_and_a_letter() -> None:
    path = shared("commonsenseqa")
    ctx = ran(commonsense_qa.CommonsenseQa, commonsense_qa.Config(path="x"), path=path)
    train, validation, test = sizes(ctx)

    assert (train + validation, test) == (9741, 1221)
    assert all(len(q.choices) == 5 and q.answer in "ABCDE" for q in ctx.rows("test"))


def test_statement_29_the_real_rationales_of_svamp_are_651_questions_of_three_and_150_for_test() -> (
    None
):
    columns = table.Columns(question=("input",))
    config = table.Config(train="x", test="x", columns=columns, validation_frac=0)
    folder = shared("svamp_gpt35")
    ctx = ran(table.Table, config, train=folder / "train.json", test=folder / "test.json")
    texts: FakeContext[Any] = FakeContext(
        config=recorded.Config(
            path="x", columns=recorded.Columns(question="input", rationale="chain")
        ),
        inputs={"questions": ctx.rows("train")},
        sources={"path": folder / "train.json"},
    )
    recorded.Recorded().run(texts)

    assert sizes(ctx) == (651, 0, 150)
    assert ctx.notes["rows_merged"] == 1302
    assert texts.notes["texts"] == 1953 == sum(r.count for r in texts.rows("rationales"))
    assert texts.notes["questions_without_rationale"] == 0


def test_a_limit_takes_the_first_real_test_questions_by_hash() -> None:
    columns = table.Columns(question=("input",))
    config = table.Config(
        train="x", test="x", columns=columns, validation_frac=0, limit=Limit(test=40)
    )
    folder = shared("svamp_gpt35")
    ctx = ran(table.Table, config, train=folder / "train.json", test=folder / "test.json")

    assert sizes(ctx) == (651, 0, 40)
