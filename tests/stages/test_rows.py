"""Reading rows: every format gives the same rows, and a bad row is told with file and line."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import StageError
from kpod.stages._lm.json_array import JsonArray, JsonArrayError
from kpod.stages._lm.rows import column, is_table, read_rows

ROWS = [{"question": "Wie viel?\u2028é", "answer": "1"}, {"question": 'a "b", c', "answer": "2"}]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix in (".jsonl", ".ndjson"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        path.write_text(text, encoding="utf-8", newline="\n")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=2, ensure_ascii=False), encoding="utf-8")
    elif path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            out = csv.DictWriter(file, fieldnames=list(rows[0]), delimiter=delimiter)
            out.writeheader()
            out.writerows(rows)
    return path


def problem_of(path: Path) -> str:
    with pytest.raises(StageError, match="allowed:") as caught:
        list(read_rows(path))
    return str(caught.value).replace(str(path), path.name)


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"rows{suffix}", ROWS)

    assert is_table(path)
    assert [row for _, row in read_rows(path)] == ROWS


def test_rows_are_numbered_by_line_where_a_file_has_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n{"a": 2}')

    assert list(read_rows(path)) == [(1, {"a": 1}), (3, {"a": 2})]


def test_an_object_that_holds_one_array_is_that_array(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"version": 1, "data": [{"a": 1}, {"a": 2}]}', encoding="utf-8")

    assert list(read_rows(path)) == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize("text", ["", "\n", "[]", " [ ]\n"])
def test_an_empty_file_has_no_rows(tmp_path: Path, text: str) -> None:
    path = tmp_path / ("rows.json" if "[" in text else "rows.jsonl")
    path.write_text(text, encoding="utf-8")

    assert list(read_rows(path)) == []


def test_a_cut_line_is_told_with_its_number_and_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "1 + 1 ?"}\n{"question": "2 + 2', encoding="utf-8")

    assert re.sub(r" \(.*\)", "", problem_of(path)) == (
        'rows.jsonl:2: not JSON: \'{"question": "2 + 2\'\n'
        "  allowed: one JSON object a line\n"
        "  the last line is cut: copy or write the file again"
    )


def test_rows_before_a_bad_line_are_read_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\nnonsense\n', encoding="utf-8")
    rows = read_rows(path)

    assert next(rows) == (1, {"a": 1})
    with pytest.raises(StageError, match=r"rows\.jsonl:2: not JSON: 'nonsense'"):
        next(rows)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.jsonl", b'[1, 2]\n', "a.jsonl:1: got '[1, 2]', which is not an object"),
        ("a.jsonl", '{"a": "é"}\n'.encode("latin-1"), "a.jsonl:1: got bytes that are not UTF-8"),
        ("a.json", b'[\n{"a": 1},\n{"a": 2', "a.json:3: not JSON: Expecting ',' delimiter"),
        ("a.json", b'[{"a": 1}\n{"a": 2}]', "a.json:2: not JSON: '{\"a\": 2}]' where , or ] should stand"),
        ("a.json", b'[{"a": 1}]\n}', "a.json:2: not JSON: '}' after the end of the array"),
        ("a.json", b'[{"a": 1},\n3]', "a.json:2: got '3', which is not an object"),
        ("a.json", '[{"a":\n"é"}]'.encode("latin-1"), "a.json:2: got bytes that are not UTF-8"),
        ("a.json", b'{"a": 1}', "a.json:1: got an object with 0 arrays: none"),
        ("a.json", b'{"a": [', "a.json:1: not JSON:"),
        ("a.json", b"nonsense", "a.json:1: not JSON: 'nonsense' where [ should stand"),
        ("a.csv", b"a,a\n1,2\n", "a.csv:1: the header repeats 'a'"),
        ("a.csv", b"a;b\n1;2\n", "a.csv:1: got one column, 'a;b', whose name seems to hold several"),
        ("a.csv", b"a\tb\n1\t2\n", "a.csv:1: got one column, 'a\\tb', whose name seems to hold several"),
        ("a.tsv", b"a;b\n1;2\n", "a.tsv:1: got one column, 'a;b', whose name seems to hold several"),
        ("a.csv", b"a,b\n1,2\n1\n", "a.csv:3: got 1 cells where the header has 2"),
        ("a.csv", b'a,b\n1,"2\n', "a.csv:2: not a row of cells: unexpected end of data"),
        ("a.csv", "a\nb\né\n".encode("latin-1"), "a.csv:3: got bytes that are not UTF-8"),
        ("a.parquet", b"PAR1 no", "a.parquet:1: not Parquet:"),
        ("a.xlsx", b"", "a.xlsx: got a file of type '.xlsx'"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_its_place(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)

    assert problem_of(path).startswith(message)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    assert problem_of(tmp_path / "none.jsonl").startswith("none.jsonl: no such file\n")


def test_a_column_is_found_by_name_before_it_is_taken_for_a_path() -> None:
    row = {"a.b": 1, "a": {"b": 2, "c": {"d": 3}}}

    assert column(row, "a.b", "rows.jsonl:1") == 1
    assert column(row, "a.c.d", "rows.jsonl:1") == 3


def test_a_missing_column_names_those_there_are_and_the_nearest() -> None:
    row = {"question": {"stem": "?", "choices": []}, "answerKey": "A"}
    with pytest.raises(StageError, match="no column") as caught:
        column(row, "question.steem", "dev.jsonl:7")

    assert str(caught.value) == (
        "dev.jsonl:7: no column 'question.steem'\n"
        "  allowed: answerKey, question, question.choices, question.stem\n"
        "  did you mean 'question.stem'?"
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    values=st.lists(JSON, max_size=6), chunk=st.integers(1, 9), indent=st.none() | st.integers(0, 2)
)
def test_an_array_is_decoded_the_same_in_chunks_of_any_size(
    values: list[Any], chunk: int, indent: int | None
) -> None:
    text = json.dumps(values, indent=indent)
    items = [item.value for item in JsonArray(io.StringIO(text), chunk_chars=chunk).items()]

    assert items == values


@given(values=st.lists(JSON, min_size=1, max_size=4), cut=st.data())
def test_a_cut_array_is_never_taken_for_a_whole_one(values: list[Any], cut: st.DataObject) -> None:
    text = json.dumps(values)
    end = cut.draw(st.integers(0, len(text) - 1))

    with pytest.raises(JsonArrayError):
        list(JsonArray(io.StringIO(text[:end]), chunk_chars=4).items())
