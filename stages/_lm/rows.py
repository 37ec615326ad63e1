"""Rows of a file, one at a time: JSON Lines, JSON, CSV, TSV and Parquet, so that a table of any size streams.

Files are UTF-8, with or without a byte order mark. A row that cannot be read is an error that names file and line:
half a file read in silence would change a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kpod.runner import LocalFile, StageError

Rows = Iterator[tuple[int, dict[str, Any]]]

_BATCH_ROWS = 2048
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_rows(path: Path) -> Rows:
    """The rows of a file, streamed, each with a number that finds it again.

    Args:
        path: .jsonl, .ndjson, .json (an array of objects, or an object that holds one array), .csv, .tsv or .parquet.

    Yields:
        (number, row): the line of the file (.jsonl, .csv) or the row (.json, .parquet), counted from 1, and its columns.

    Raises:
        StageError: the file is missing or of another type, or a row is cut, not an object, or not UTF-8.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise StageError(
            f"{path}: got a file of type '{path.suffix}'\n"
            f"  allowed: {', '.join(_READERS)}\n"
            "  convert it to JSON Lines, one object a line"
        )
    if not path.is_file():
        raise StageError(
            f"{path}: no such file\n  allowed: a file of rows\n  check the path that the recipe gives"
        )
    return reader(path)


def table_source(path: str, *, setting: str) -> LocalFile:
    """A file that a recipe names in a setting, with what to do where it is not there."""
    return LocalFile(
        path,
        "the recipe's comments may say where it comes from;"
        f" name another file with --set stages.ID.with.{setting}=FILE",
    )


def is_table(path: Path) -> bool:
    """Whether `read_rows` knows this type of file."""
    return path.suffix.lower() in _READERS


def column(
    row: Mapping[str, Any], name: str, where: str, *, advice: str = "name the column in the recipe"
) -> Any:
    """The value of a column; a dot goes into a nested object (`question.stem`).

    Args:
        row: the row.
        name: a column, or a dotted path where no column has that very name.
        where: file and line, for the error.
        advice: what to do where no column has a name like it.

    Raises:
        StageError: there is no such column.
    """
    if name in row:
        return row[name]
    value: Any = row
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise StageError(_missing(row, name, where, advice))
        value = value[part]
    return value


def _missing(row: Mapping[str, Any], name: str, where: str, advice: str) -> str:
    import difflib

    names = sorted(_dotted(row))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else advice
    return f"{where}: no column '{name}'\n  allowed: {', '.join(names)}\n  {hint}"


def _dotted(row: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in row.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{name}.")


def _lines(path: Path) -> Rows:
    """JSON Lines; blank lines are passed over."""
    import orjson

    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            data = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
            if data.isspace():
                continue
            try:
                row = orjson.loads(data)
            except orjson.JSONDecodeError as error:
                raise StageError(_bad_line(path, number, data, str(error))) from None
            yield number, _checked(row, f"{path}:{number}")


def _bad_line(path: Path, number: int, data: bytes, reason: str) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return _not_utf8(f"{path}:{number}")
    is_cut = not data.endswith(b"\n")
    todo = (
        "the last line is cut: copy or write the file again"
        if is_cut
        else "mend or delete the line"
    )
    return (
        f"{path}:{number}: not JSON: {_shown(text)} ({reason.partition(': line')[0]})\n"
        f"  allowed: one JSON object a line\n  {todo}"
    )


def _not_utf8(where: str) -> str:
    return f"{where}: got bytes that are not UTF-8\n  allowed: UTF-8 text\n  save the file as UTF-8"


def _undecoded(path: Path) -> str:
    """File and line of the first bytes that are not UTF-8; a text reader decodes ahead and cannot tell."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return f"{path}:{number}"
    return str(path)


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _checked(row: Any, where: str) -> dict[str, Any]:
    if isinstance(row, dict):
        return row
    raise StageError(
        f"{where}: got {_shown(repr(row))}, which is not an object\n"
        '  allowed: an object of columns, {"question": ...}\n  give the columns names'
    )


def _json(path: Path) -> Rows:
    """A JSON array, decoded an element at a time; or an object that holds one array, decoded whole."""
    with path.open("rb") as file:
        head = file.read(64).removeprefix(_BYTE_ORDER_MARK).lstrip()
    if head.startswith(b"{"):
        return _wrapped_rows(path)
    return _array_rows(path)


def _wrapped_rows(path: Path) -> Rows:
    import orjson

    try:
        whole = orjson.loads(path.read_bytes().removeprefix(_BYTE_ORDER_MARK))
    except orjson.JSONDecodeError as error:
        raise StageError(_bad_json(path, error.lineno, error.msg)) from None
    arrays = {name: value for name, value in whole.items() if isinstance(value, list)}
    if len(arrays) != 1:
        raise StageError(
            f"{path}:1: got an object with {len(arrays)} arrays: {', '.join(arrays) or 'none'}\n"
            "  allowed: an array of objects, or an object that holds exactly one\n"
            "  keep the array of rows alone in the file"
        )
    for number, row in enumerate(next(iter(arrays.values())), start=1):
        yield number, _checked(row, f"{path}:{number}")


def _bad_json(path: Path, line: int, reason: str) -> str:
    return (
        f"{path}:{line}: not JSON: {reason}\n  allowed: an array of objects\n"
        "  the file may be cut: copy or write it again"
    )


def _array_rows(path: Path) -> Rows:
    from kpod.stages._lm.json_array import JsonArray, JsonArrayError

    with path.open(encoding="utf-8-sig") as file:
        array = JsonArray(file)
        number = 0
        try:
            for item in array.items():
                number += 1
                yield number, _checked(item.value, f"{path}:{item.line}")
        except JsonArrayError as error:
            raise StageError(_bad_json(path, error.line, error.reason)) from None
        except UnicodeDecodeError:
            raise StageError(_not_utf8(_undecoded(path))) from None


def _comma_separated(path: Path) -> Rows:
    return _separated(path, ",")


def _tab_separated(path: Path) -> Rows:
    return _separated(path, "\t")


def _separated(path: Path, delimiter: str) -> Rows:
    """CSV or TSV with a header line; the number is the line at which the row ends."""
    import csv

    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        try:
            for cells in reader:
                if header is None:
                    header = _header(cells, f"{path}:{reader.line_num}", delimiter)
                elif cells:
                    yield reader.line_num, _cells(header, cells, f"{path}:{reader.line_num}")
        except UnicodeDecodeError:
            raise StageError(_not_utf8(_undecoded(path))) from None
        except csv.Error as error:
            raise StageError(
                f"{path}:{reader.line_num}: not a row of cells: {error}\n"
                '  allowed: cells of at most 131,072 characters, quoted as "a ""b"" c"\n'
                "  mend the line, or convert the file to JSON Lines"
            ) from None


def _header(cells: list[str], where: str, delimiter: str) -> list[str]:
    others = [mark for mark in ";|\t" if mark != delimiter and mark in cells[0]]
    if len(cells) == 1 and others:
        raise StageError(
            f"{where}: got one column, {cells[0]!r}, whose name seems to hold several\n"
            "  allowed: cells between commas in a .csv, between tabs in a .tsv\n"
            f"  write the file anew with these in place of {others[0]!r}, or convert it to JSON Lines"
        )
    repeated = sorted({name for name in cells if cells.count(name) > 1})
    if repeated:
        raise StageError(
            f"{where}: the header repeats {', '.join(map(repr, repeated))}\n"
            "  allowed: each column name once\n  rename the columns"
        )
    return cells


def _cells(header: list[str], cells: list[str], where: str) -> dict[str, Any]:
    if len(cells) != len(header):
        raise StageError(
            f"{where}: got {len(cells)} cells where the header has {len(header)}\n"
            f"  allowed: {', '.join(header)}\n  quote cells that hold separators or line ends"
        )
    return dict(zip(header, cells, strict=True))


def _parquet(path: Path) -> Rows:
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowInvalid, OSError) as error:
        raise StageError(
            f"{path}:{number + 1}: not Parquet: {_shown(str(error))}\n  allowed: a whole Parquet file\n"
            "  the file may be cut: copy or write it again"
        ) from None


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _json,
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".parquet": _parquet,
}
