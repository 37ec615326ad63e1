"""Batch files on disk: requests written within the service's limits, answers read line by line, whatever state they are in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import orjson

from kpod.runner.batch import BatchRequest
from kpod.runner.errors import KpodError

# OpenAI's limits of a batch input file (https://platform.openai.com/docs/guides/batch); a MB taken as 10^6 bytes, the safe reading.
MAX_LINES = 50_000
MAX_BYTES = 200_000_000
URL = "/v1/chat/completions"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """One line of an output or error file.

    Args:
        where: file and line, for messages.
        custom_id: of the request; None where the line is torn or is no answer.
        body: of the response where the service says that it answered, else None.
        reason: why there is no body, in the service's words, or what is wrong with the line.
    """

    where: str
    custom_id: str | None
    body: Mapping[str, Any] | None
    reason: str


class BatchFiles:
    """Writes requests into `NAME-0001.jsonl` and so on; one that ends before `close` leaves no file under its final name."""

    def __init__(
        self, folder: Path, name: str, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES
    ) -> None:
        """Args: the folder, the names' beginning, and the limits of a file; raises KpodError where such files are there."""
        self._folder, self._name = folder, name
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._file: IO[bytes] | None = None
        self._drafts: list[Path] = []
        self._num_lines = self._num_bytes = 0
        self._model: object = None
        there = sorted(folder.glob(f"{name}-[0-9]*.jsonl"))
        if there:
            raise KpodError(
                f"{there[0]} is there already\nname another folder with --to DIR, or move the files of the earlier export away"
            )

    def add(self, request: BatchRequest) -> None:
        """Write one request; raises KpodError where it alone passes a file's limit."""
        line = orjson.dumps(
            {
                "custom_id": request.custom_id,
                "method": "POST",
                "url": URL,
                "body": request.body,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        if len(line) > self._max_bytes:
            raise KpodError(
                f"request {request.custom_id} has {len(line):,} bytes, but a batch file holds {self._max_bytes:,}\n"
                "shorten the prompt or its examples"
            )
        model = request.body.get("model")
        is_full = (
            self._num_lines >= self._max_lines or self._num_bytes + len(line) > self._max_bytes
        )
        if self._file is None or is_full or model != self._model:
            self._next_file()
        assert self._file is not None
        self._file.write(line)
        self._model = model
        self._num_lines += 1
        self._num_bytes += len(line)

    def _next_file(self) -> None:
        if self._file is not None:
            self._file.close()
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{self._name}-{len(self._drafts) + 1:04}.jsonl.draft"
        self._file = draft.open("wb")
        self._drafts.append(draft)
        self._num_lines = self._num_bytes = 0

    def close(self) -> list[Path]:
        """Give the files their names; all of them, in order."""
        if self._file is not None:
            self._file.close()
        made = []
        for draft in self._drafts:
            path = draft.with_name(draft.name.removeprefix(".").removesuffix(".draft"))
            draft.replace(path)
            made.append(path)
        return made

    def drop(self) -> None:
        """Take the unfinished files away."""
        if self._file is not None:
            self._file.close()
        for draft in self._drafts:
            draft.unlink(missing_ok=True)


def read_answers(paths: Iterable[Path]) -> Iterator[BatchAnswer]:
    """The answers of output and error files, streamed; empty lines are passed over.

    Raises:
        KpodError: a file cannot be read.
    """
    for path in paths:
        try:
            file = path.open("rb")
        except OSError as error:
            raise KpodError(f"{path}: {error.strerror}; nothing of it was imported") from error
        with file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _answer(f"{path}:{number}", line)


def _answer(where: str, line: bytes) -> BatchAnswer:
    """One line, as far as it can be understood."""
    try:
        row: Any = orjson.loads(line)
    except ValueError:
        return BatchAnswer(where=where, custom_id=None, body=None, reason="no JSON (a torn line)")
    custom_id = row.get("custom_id") if isinstance(row, dict) else None
    if not isinstance(custom_id, str):
        return BatchAnswer(where=where, custom_id=None, body=None, reason="no custom_id")
    response = row.get("response")
    if not isinstance(response, dict):
        reason = _error_words(row.get("error")) or "no response"
        return BatchAnswer(where=where, custom_id=custom_id, body=None, reason=reason)
    body, status = response.get("body"), response.get("status_code")
    if status != 200 or not isinstance(body, dict):
        said = _error_words(body) or _error_words(row.get("error"))
        reason = " ".join(part for part in (f"status {status}", said) if part)
        return BatchAnswer(where=where, custom_id=custom_id, body=None, reason=reason)
    return BatchAnswer(where=where, custom_id=custom_id, body=body, reason="")


def _error_words(error: Any) -> str:
    """The code or type of an error object, as the service gives it; never its message, which may differ from line to line."""
    if not isinstance(error, dict):
        return ""
    inner = error.get("error")
    if isinstance(inner, dict):
        return _error_words(inner)
    return str(error.get("code") or error.get("type") or "")
