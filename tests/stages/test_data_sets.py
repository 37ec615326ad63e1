"""The data sets: what a row becomes, and which files are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import HubRepository, LocalFile, Question, SettingError, Source, StageError
from kpod.stages.data import commonsense_qa, gsm8k, svamp, table
from kpod.stages.data._cells import (
    Choices,
    answer_text,
    choice_letter,
    choice_texts,
    choices_in_text,
)
from kpod.stages.data._splits import Limit
from kpod.stages.teacher import recorded
from tests.stages.fakes import FakeContext

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
GSM8K_ROW = {
    "question": " Weng earns $12 an hour. How much for 90 hours? ",
    "answer": "She earned 12 x 90 = $<<12*90=1080>>1,080.\n#### 1,080",
}
MCC_KD = table.Columns(question=("instruction",), answer="label")
CSQA_CHOICES = [{"label": "A", "text": "ignore"}, {"label": "B", "text": "enforce"}]


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs shared/data/{name} beside the checkout")
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def ran(stage: Any, config: Any, **sources: Path) -> FakeContext[Any]:
    ctx: FakeContext[Any] = FakeContext(config=config, sources=sources)
    stage().run(ctx)
    return ctx


def sizes(ctx: FakeContext[Any]) -> tuple[int, int, int]:
    return len(ctx.rows("train")), len(ctx.rows("validation")), len(ctx.rows("test"))


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
