"""The data sets: what a row becomes, and which files are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from kpod.runner import HubRepository, LocalFile, Question, SettingError, Source, StageError
from kpod.stages.data import commonsense_qa, gsm8k, svamp, table
from tests.stages.data_files import (
    CSQA_CHOICES,
    GSM8K_ROW,
    ran,
    sizes,
    write_lines,
    write_parquet,
)


def test_a_gsm8k_answer_loses_its_commas_and_the_solution_keeps_its_marks() -> None:
    made = gsm8k.gsm8k_question(GSM8K_ROW, "train.jsonl:1")

    assert made == Question.make(
        "Weng earns $12 an hour. How much for 90 hours?", kind="numeric", answer="1080", split="train",
        source="gsm8k", solution="She earned 12 x 90 = $<<12*90=1080>>1,080.",
    )  # fmt: skip


def test_a_gsm8k_answer_without_its_mark_is_told() -> None:
    with pytest.raises(
        StageError, match=r"train\.jsonl:3: got an answer without a number after '####'"
    ):
        gsm8k.gsm8k_question({"question": "?", "answer": "It is 72."}, "train.jsonl:3")


def test_gsm8k_is_read_from_a_folder_laid_out_as_on_the_hub(tmp_path: Path) -> None:
    other = {"question": "other", "answer": "#### 5"}
    write_parquet(tmp_path / "main" / "train-00000-of-00001.parquet", [GSM8K_ROW])
    write_parquet(tmp_path / "main" / "test-00000-of-00001.parquet", [other])
    write_parquet(tmp_path / "socratic" / "train-00000-of-00001.parquet", [other])
    config = gsm8k.Config(validation_frac=0, revision="abc")
    ctx = ran(gsm8k.Gsm8k, config, name=tmp_path)

    assert sizes(ctx) == (1, 0, 1)
    assert gsm8k.Gsm8k.sources(config) == {"name": HubRepository("openai/gsm8k", "dataset", "abc")}


def test_all_shards_of_a_split_are_read_and_overlap_is_dropped(tmp_path: Path) -> None:
    rows = [{"question": str(number), "answer": "#### 5"} for number in range(4)]
    write_parquet(tmp_path / "data" / "train-00000-of-00002-0a1b.parquet", rows[:2])
    write_parquet(tmp_path / "data" / "train-00001-of-00002-2c3d.parquet", rows[2:])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", rows[3:])
    ctx = ran(gsm8k.Gsm8k, gsm8k.Config(validation_frac=0), name=tmp_path)

    assert sizes(ctx) == (3, 0, 1)
    assert ctx.notes["overlap_removed"] == 1


def test_a_folder_prefers_the_file_named_as_the_split_alone(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", [GSM8K_ROW])
    write_lines(
        tmp_path / "train_socratic.jsonl", [GSM8K_ROW, {"question": "x", "answer": "#### 1"}]
    )
    config = gsm8k.Config(path=str(tmp_path), validation_frac=0)

    assert sizes(ran(gsm8k.Gsm8k, config, path=tmp_path)) == (1, 0, 0)
    source = gsm8k.Gsm8k.sources(config)["path"]
    assert isinstance(source, LocalFile)
    assert source.path == str(tmp_path)


def test_two_files_that_could_be_a_split_are_told(tmp_path: Path) -> None:
    write_lines(tmp_path / "train_a.jsonl", [GSM8K_ROW])
    write_lines(tmp_path / "train_b.jsonl", [GSM8K_ROW])
    with pytest.raises(
        StageError, match=r"several files that could be train: train_a\.jsonl, train_b"
    ):
        ran(gsm8k.Gsm8k, gsm8k.Config(path="x"), path=tmp_path)


def test_a_folder_without_a_split_lists_what_it_holds(tmp_path: Path) -> None:
    write_lines(tmp_path / "questions.jsonl", [GSM8K_ROW])
    with pytest.raises(
        StageError, match=r"no file of train or test; got questions\.jsonl\n  allowed: train or"
    ):
        ran(gsm8k.Gsm8k, gsm8k.Config(path="x"), path=tmp_path)


def test_files_named_one_by_one_are_all_that_is_read(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "mine.jsonl", [GSM8K_ROW])
    config = gsm8k.Config(train=str(train), validation_frac=0)

    assert sizes(ran(gsm8k.Gsm8k, config, train=train)) == (1, 0, 0)
    (source,) = gsm8k.Gsm8k.sources(config).values()
    assert isinstance(source, LocalFile)
    assert source.path == str(train)


@pytest.mark.parametrize(
    ("sources", "advice"),
    [
        (
            gsm8k.Gsm8k.sources(gsm8k.Config(path="x")),
            'data.gsm8k reads train.jsonl and test.jsonl, rows of {"question", "answer"} whose answer ends in #### 72;'
            " without path, train, validation and test it reads openai/gsm8k from the hub",
        ),
        (
            svamp.Svamp.sources(svamp.Config(train="x", name="my/svamp")),
            "data.svamp reads SVAMP.json, or train.json and test.json,"
            ' rows of {"Body", "Question", "Answer"};'
            " without path, train, validation and test it reads my/svamp from the hub",
        ),
        (
            commonsense_qa.CommonsenseQa.sources(commonsense_qa.Config(test="x")),
            "data.commonsense_qa reads train_rand_split.jsonl and dev_rand_split.jsonl,"
            ' rows of {"answerKey", "question"};'
            " without path, train, validation and test it reads tau/commonsense_qa from the hub",
        ),
        (
            table.Table.sources(table.Config(train="x")),
            "the recipe's comments may say where it comes from; name another file with --set stages.ID.with.train=FILE",
        ),
    ],
)
def test_a_missing_file_is_told_with_what_is_expected_there(
    sources: Mapping[str, Source], advice: str
) -> None:
    assert [file.how_to_get for file in sources.values() if isinstance(file, LocalFile)] == [advice]


def test_an_empty_training_file_is_told(tmp_path: Path) -> None:
    train = write_lines(tmp_path / "mine.jsonl", [])
    with pytest.raises(StageError, match=r"mine\.jsonl: empty data set: the file holds no rows"):
        ran(gsm8k.Gsm8k, gsm8k.Config(train="x"), train=train)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"path": "a", "train": "b"}, "train: the files come from 'path' already"),
        ({"path": "a", "revision": "b"}, "revision: only the hub has revisions"),
    ],
)
def test_settings_of_a_published_set_that_exclude_each_other_are_refused(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        gsm8k.Config(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("He has 3", "He has 3. How many?"),
        ("He has 3.", "He has 3. How many?"),
        ("Has he 3? ", "Has he 3? How many?"),
    ],
)
def test_a_svamp_question_is_joined_by_one_full_stop(body: str, text: str) -> None:
    made = svamp.svamp_question({"Body": body, "Question": "How many?", "Answer": 51.0}, "f:1")

    assert (made.text, made.answer) == (text, "51")


def test_one_list_of_svamp_is_split_by_hash_of_the_id(tmp_path: Path) -> None:
    rows = [{"Body": f"Case {n}.", "Question": "How many?", "Answer": float(n)} for n in range(30)]
    path = tmp_path / "SVAMP.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    config = svamp.Config(path="x", num_validation=5, num_test=7)
    ctx = ran(svamp.Svamp, config, path=path)
    path.write_text(json.dumps(rows[::-1]), encoding="utf-8")
    again = ran(svamp.Svamp, config, path=tmp_path)

    assert sizes(ctx) == (18, 5, 7)
    assert {q.id for q in again.rows("test")} == {q.id for q in ctx.rows("test")}


def test_a_list_of_svamp_too_short_for_its_splits_is_told(tmp_path: Path) -> None:
    path = tmp_path / "SVAMP.json"
    path.write_text('[{"Body": "a.", "Question": "b?", "Answer": 1.0}]', encoding="utf-8")
    with pytest.raises(
        StageError, match="got 1 questions, and 'num_validation' and 'num_test' ask for 300"
    ):
        ran(svamp.Svamp, svamp.Config(path="x"), path=path)


def test_the_hub_copy_of_svamp_keeps_its_own_splits(tmp_path: Path) -> None:
    row = {"ID": "chal-1", "Body": "He has 3", "Question": "How many?", "Answer": "3.0"}
    write_parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [row])
    write_parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [{**row, "Body": "He has 4"}])
    ctx = ran(svamp.Svamp, svamp.Config(validation_frac=0), name=tmp_path)

    assert [row.answer for row in ctx.rows("train") + ctx.rows("test")] == ["3", "3"]


def test_commonsense_qa_reads_the_release_and_the_hub_alike() -> None:
    release = {
        "answerKey": "B",
        "question": {"stem": "What did they do?", "question_concept": "x", "choices": CSQA_CHOICES},
    }
    hub = {
        "answerKey": "B", "question": "What did they do?", "question_concept": "x",
        "choices": {"label": ["A", "B"], "text": ["ignore", "enforce"]},
    }  # fmt: skip
    made = commonsense_qa.commonsense_question(release, "f:1")

    assert made == commonsense_qa.commonsense_question(hub, "f:1")
    assert (made.answer, made.choices, made.kind) == ("B", ("ignore", "enforce"), "choice")


def test_the_dev_split_of_commonsense_qa_is_the_test_split(tmp_path: Path) -> None:
    row = {"answerKey": "A", "question": "?", "choices": {"label": ["A", "B"], "text": ["a", "b"]}}
    for split, stem in (("train", "t?"), ("validation", "v?"), ("test", "hidden?")):
        write_parquet(
            tmp_path / "data" / f"{split}-00000-of-00001.parquet", [{**row, "question": stem}]
        )
    ctx = ran(commonsense_qa.CommonsenseQa, commonsense_qa.Config(validation_frac=0), name=tmp_path)

    assert [q.text for q in ctx.rows("test")] == ["v?"]
    assert sizes(ctx) == (1, 0, 1)
