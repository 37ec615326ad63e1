"""ASDiv: the release's XML and the hub's columns, one number from an answer, and the split of the one list."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import HubRepository, LocalFile, Question, StageError
from kpod.stages.data._asdiv import asdiv_question, one_number
from kpod.stages.data._asdiv_xml import read_problems
from kpod.stages.data._splits import Limit
from kpod.stages.data.asdiv import Asdiv, Config
from tests.stages.fakes import FakeContext


def problem(body: str, question: str, answer: str, formula: str = "") -> str:
    return (
        f'<Problem ID="nluds-0001" Grade="1" Source="http://a.b">\n<Body>{escape(body)}</Body>\n'
        f'<Question>{escape(question)}</Question>\n<Solution-Type Subgoal-1="Sum">Addition</Solution-Type>\n'
        f"<Answer>{escape(answer)}</Answer>\n<Formula>{escape(formula)}</Formula>\n</Problem>\n"
    )


def xml(path: Path, problems: list[str], *, head: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="UTF-8" ?>\n{head}<Machine-Reading-Corpus-File>\n<ProblemSet>\n'
        + "".join(problems)
        + "</ProblemSet>\n</Machine-Reading-Corpus-File>\n",
        encoding="utf-8",
    )
    return path


def many(number: int) -> list[str]:
    return [
        problem(f"Case {n}.", "How many?", f"{n} (apples)", f"{n}+0={n}") for n in range(number)
    ]


def ran(config: Config, **sources: Path) -> FakeContext[Config]:
    ctx = FakeContext(config=config, sources=sources)
    Asdiv().run(ctx)
    return ctx


def sizes(ctx: FakeContext[Any]) -> tuple[int, int, int]:
    return len(ctx.rows("train")), len(ctx.rows("validation")), len(ctx.rows("test"))


def test_a_problem_becomes_one_text_a_number_and_its_formula(tmp_path: Path) -> None:
    path = xml(tmp_path / "ASDiv.xml", [problem("Sam & Ann have 9 < 10, ", " how many? ", "6 (cupcakes)", "(9-6)*2=6")])  # fmt: skip
    ((line, row),) = read_problems(path)

    assert line == 4
    assert asdiv_question(row, "f:4") == Question.make(
        "Sam & Ann have 9 < 10, how many?", kind="numeric", answer="6", split="train", source="asdiv",
        solution="(9-6)*2=6",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("9 (apples)", "9"),
        ("12 (inches of snow)", "12"),
        ("1,080 (km)", "1,080"),
        ("2.5", "2.5"),
        ("1/2 (cup)", "1/2"),
        ("2 1/2 (hours)", "2 1/2"),
        ("$3", "$3"),
        ("20%", "20%"),
        ("5 (packs of 6)", "5"),
        ("Mrs. Hilt", None),
        ("5 (dimes); 4 (nickels)", None),
        ("2 (hours) 30 (minutes)", None),
        ("10:30 (am)", None),
        ("3:5", None),
        ("8, 12", None),
        ("8,12", None),
        ("(3)", None),
        ("", None),
    ],
)
def test_an_answer_is_one_number_or_none(answer: str, number: str | None) -> None:
    assert one_number(answer) == number


@given(
    st.one_of(
        st.text(max_size=40),
        st.from_regex(r"[-+]?\$?[0-9,./% ]{1,12}( \([a-z]+\))?", fullmatch=True),
    )
)
def test_reading_a_number_never_fails_and_what_is_read_can_be_scored(text: str) -> None:
    from kpod.stages._lm.answers import canonical
    from kpod.stages.data._cells import answer_text

    number = one_number(text)
    if number is not None and len(number) < 30:
        gold = answer_text(number, "numeric", "f:1")
        assert gold is not None
        assert canonical(gold, "numeric", None) is not None


def test_the_one_list_is_split_by_hash_of_the_id_whatever_its_order(tmp_path: Path) -> None:
    config = Config(path="x", num_validation=5, num_test=7)
    ctx = ran(config, path=xml(tmp_path / "ASDiv.xml", many(30)))
    again = ran(config, path=xml(tmp_path / "b" / "dataset" / "ASDiv.xml", many(30)[::-1]).parents[1])  # fmt: skip

    assert sizes(ctx) == (18, 5, 7)
    assert {q.id for q in again.rows("test")} == {q.id for q in ctx.rows("test")}
    assert {q.split for q in ctx.rows("validation")} == {"validation"}


def test_the_split_of_the_publication_takes_313_and_314_by_default(tmp_path: Path) -> None:
    ctx = ran(Config(path="x"), path=xml(tmp_path / "ASDiv.xml", many(2089)))

    assert sizes(ctx) == (1462, 313, 314)


def test_what_is_not_one_number_is_left_out_and_counted_once_whatever_the_passes(
    tmp_path: Path,
) -> None:
    others = [problem("Who?", "A or B?", "Mrs. Hilt"), problem("a", "b", "5 (dimes); 4 (nickels)")]
    config = Config(path="x", num_validation=0, num_test=1, limit=Limit(train=2))
    ctx = ran(config, path=xml(tmp_path / "ASDiv.xml", [*others, *many(4)]))

    assert sizes(ctx) == (2, 0, 1)
    assert ctx.notes["left_out"] == {"no_number": 1, "several_numbers": 1}


def test_the_hub_copy_is_read_by_its_columns(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [
        {"body": f"Case {n}.", "question": "How many?", "solution_type": "Sum", "answer": f"{n} (a)", "formula": "1=1"}
        for n in range(9)
    ]  # fmt: skip
    folder = tmp_path / "asdiv"
    folder.mkdir()
    parquet.write_table(
        pyarrow.Table.from_pylist(rows), folder / "validation-00000-of-00001.parquet"
    )
    config = Config(num_validation=2, num_test=3, revision="abc")
    ctx = ran(config, name=tmp_path)

    assert sizes(ctx) == (4, 2, 3)
    assert Asdiv.sources(config) == {"name": HubRepository("EleutherAI/asdiv", "dataset", "abc")}


def test_files_named_one_by_one_are_the_splits_as_they_stand(tmp_path: Path) -> None:
    train = xml(tmp_path / "a.xml", many(5))
    test = tmp_path / "b.jsonl"
    test.write_text(
        '{"body": "Case 4.", "question": "How many?", "answer": "4 (apples)"}\n'
        '{"body": "", "question": "How many?", "answer": "1"}\n',
        encoding="utf-8",
    )
    config = Config(train=str(train), test=str(test), validation_frac=0)
    ctx = ran(config, train=train, test=test)

    assert sizes(ctx) == (4, 0, 2)
    assert ctx.notes["overlap_removed"] == 1
    assert [type(source) for source in Asdiv.sources(config).values()] == [LocalFile, LocalFile]


def test_a_list_too_short_for_its_splits_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"ASDiv\.xml: got 3 questions, and 'num_validation' and"):
        ran(Config(path="x"), path=xml(tmp_path / "ASDiv.xml", many(3)))


BOMB = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>\n'


def test_a_document_type_is_refused_before_any_entity_is_read(tmp_path: Path) -> None:
    path = xml(tmp_path / "ASDiv.xml", many(3), head=BOMB)
    with pytest.raises(StageError) as caught:
        list(read_problems(path))

    assert str(caught.value) == (
        f"{path}:2: got a document type (lolz), which can declare entities\n"
        "  allowed: XML without <!DOCTYPE …>, as ASDiv.xml was published\n  take the line out"
    )


def test_a_cut_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = xml(tmp_path / "ASDiv.xml", many(3))
    path.write_bytes(path.read_bytes()[:-70])
    with pytest.raises(StageError, match=r"ASDiv\.xml:\d+: not XML: no element found"):
        list(read_problems(path))


def test_an_xml_file_without_problems_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"ASDiv\.xml: got XML without a <Problem>"):
        list(read_problems(xml(tmp_path / "ASDiv.xml", [])))


def test_a_problem_without_an_answer_element_is_told_with_its_line(tmp_path: Path) -> None:
    bare = "<Problem><Body>a</Body><Question>b</Question></Problem>\n"
    with pytest.raises(StageError, match=r"ASDiv\.xml:4: no column 'answer'"):
        ran(Config(path="x"), path=xml(tmp_path / "ASDiv.xml", [bare]))


@pytest.mark.parametrize(("row", "message"), [
    ({"body": " ", "question": "", "answer": "1"}, "f:1: got a problem without body and question"),
    ({"body": "a", "question": "b", "answer": "3:5"}, "f:1: got the answer '3:5'\n  allowed: one number"),
])  # fmt: skip
def test_a_problem_that_is_none_is_told(row: dict[str, str], message: str) -> None:
    with pytest.raises(StageError, match=message):
        asdiv_question(row, "f:1")
