"""The Context of a running stage: reads stored contents, writes a draft, tells progress, stops when asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

import orjson

from kpod.runner.budget import Budget
from kpod.runner.canonical import canonical_json, digest_of
from kpod.runner.errors import Interrupted, StageError
from kpod.runner.events import Events
from kpod.runner.interrupt import StopRequest
from kpod.runner.ledger import Ledger
from kpod.runner.manifest import StoredOutput, stored_output
from kpod.runner.outside import Found, Outside
from kpod.runner.plan import Content, Unit
from kpod.runner.recipe import Placement
from kpod.runner.record import Model, Record
from kpod.runner.row import check_fields
from kpod.runner.stage import Input, Output
from kpod.runner.store import Store
from kpod.runner.texts import TextStore

RecordT = TypeVar("RecordT", bound=Record)


class RecordWriter:
    """Appends records to a file, as JSON lines with sorted keys."""

    def __init__(self, file: IO[bytes], record: type[Record]) -> None:
        self._file = file
        self._record = record
        self.count = 0

    def add(self, record: Record) -> None:
        """Append one record."""
        assert isinstance(record, self._record), f"this output holds {self._record.__name__}"
        check_fields(record)
        self._file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        self.count += 1


def read_records(path: Path, record: type[RecordT]) -> Iterator[RecordT]:
    """The records of a stored file, streamed."""
    with path.open("rb") as lines:
        for line in lines:
            yield record.from_row(orjson.loads(line))


@dataclass(slots=True, kw_only=True)
class Running:
    """What `Context` promises, over a store and a draft. One for each execution of a unit."""

    unit: Unit
    config: Any
    seed: int
    contents: Mapping[str, tuple[Content, ...]]
    sources: Mapping[str, Found]
    draft: Path
    store: Store
    outside: Outside
    events: Events
    stop: StopRequest
    key: str
    run_name: str = ""
    budget: Budget = field(default_factory=Budget)
    retry_refused: bool = False
    logs_folder: Path | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    refers: list[str] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)
    _pointers: dict[str, str] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        """A folder that outlives an interruption."""
        folder = self.store.partial(self.key)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def logs(self) -> Path:
        """A folder beside the archive; made by whoever writes into it."""
        if self.logs_folder is not None:
            return self.logs_folder
        home = self.checkpoint if self.events.path is None else self.events.path.parent
        return home / "trackers" / self.unit.name

    @property
    def records(self) -> TextStore:
        """Generated texts."""
        return self.store.texts

    @property
    def ledger(self) -> Ledger:
        """What is asked of endpoints, under the names of this run and this unit."""
        return Ledger(self.store.texts, run=self.run_name, unit=self.unit.name)

    @property
    def placement(self) -> Placement:
        """Device and threads."""
        return self.unit.stage.placement

    @property
    def should_stop(self) -> bool:
        """Whether the run was asked to stop."""
        return self.stop.is_set

    def read(self, source: Input[RecordT]) -> Iterator[RecordT]:
        """The records of an input, streamed, all its sources in order."""
        for content in self.contents.get(source.name, ()):
            yield from read_records(content.entry.path(content.output), source.record)

    def is_wired(self, source: Input[Any]) -> bool:
        """Whether an optional input is wired."""
        return bool(self.contents.get(source.name))

    def digest(self, source: Input[Any]) -> str:
        """Content digest of an input: of its one source, or over those of all."""
        digests = [content.digest for content in self.contents[source.name]]
        return digests[0] if len(digests) == 1 else digest_of(digests)

    def path(self, source: Input[Model]) -> Path:
        """The folder of a Model input."""
        content = self.contents[source.name][0]
        return content.entry.path(content.output)

    def artifact(self, digest: str) -> Path:
        """The folder of another stage's output, by content digest."""
        found = self.store.find_output(digest)
        if found is None:
            raise StageError(
                f"the base model {digest[:12]} of this adapter is not in the store {self.store.root}\n"
                "run the recipe that made it again, with the same store"
            )
        entry, output = found
        return entry.path(output)

    def pointed(self, folder: Path) -> Path | None:
        """Where a Model folder's weights lie, if not in it."""
        entry = self.store.get(folder.parent.name)
        pointer = entry.manifest.outputs[folder.name].pointer if entry else None
        return None if pointer is None else Path(pointer)

    def source(self, setting: str) -> Path:
        """Where a source lies; a hub repository is downloaded first."""
        return self.outside.fetch(
            self.unit.stage.stage.sources(self.config)[setting], self.sources[setting]
        )

    @contextmanager
    def write(self, output: Output[Any]) -> Iterator[RecordWriter]:
        """Open an output for records."""
        with (self.draft / f"{output.name}.jsonl").open("wb") as file:
            writer = RecordWriter(file, output.record)
            yield writer
        self._counts[output.name] = writer.count

    @contextmanager
    def folder(self, output: Output[Model]) -> Iterator[Path]:
        """Open an output that is a folder."""
        folder = self.draft / output.name
        folder.mkdir()
        yield folder
        self._counts[output.name] = 0

    def point(self, output: Output[Model], target: Path) -> None:
        """Leave a Model output's weights where they are."""
        self._pointers[output.name] = str(target)

    def refer(self, digest: str) -> None:
        """Keep another output alive as long as this one."""
        self.refers.append(digest)

    def progress(self, done: float, total: float, *, unit: str = "", **facts: float) -> None:
        """Tell how far the stage is; raises Interrupted when the run was asked to stop."""
        self.events.emit("progress", id=self.unit.name, done=done, total=total, unit=unit, **facts)
        if self.stop.is_set:
            raise Interrupted(
                f"{self.unit.name} was stopped at {done:g} of {total:g} {unit}".rstrip()
            )

    def note(self, key: str, value: object) -> None:
        """Keep a fact beside the outputs; raises ValueError or TypeError where it is no JSON value."""
        canonical_json(value)
        self.notes[key] = value

    def outputs(self) -> dict[str, StoredOutput]:
        """What the stage has written; asserts that it wrote every output."""
        stored: dict[str, StoredOutput] = {}
        for name, output in self.unit.stage.stage.outputs().items():
            assert name in self._counts, f"{self.unit.stage.uses} did not write its output '{name}'"
            pointer = self._pointers.get(name)
            stored[name] = stored_output(
                self.draft, name, is_folder=output.record.is_folder, num_records=self._counts[name], pointer=pointer,
                pointed_digest=None if pointer is None else self.store.memo.content_digest(Path(pointer)),
            )  # fmt: skip
        return stored
