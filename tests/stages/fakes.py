"""A context held in memory, so that a stage can be run by a test without a store, a plan or a run.

    ctx = FakeContext(config=Config(), inputs={"questions": [question]}, sources={"path": path})
    Recorded().run(ctx)
    assert ctx.rows("rationales") == [...]

Input and output names are the attribute names of the stage class. Nothing is copied: what a stage writes is what a
test finds. `root` (a tmp_path) is asked for only where a test wants folders to outlive one context, as a resume does.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from kpod.runner import Budget, Input, Interrupted, Ledger, Model, Output, Record, content_id
from kpod.runner.texts import TextStore

ConfigT = TypeVar("ConfigT")
RecordT = TypeVar("RecordT", bound=Record)


@dataclass(frozen=True, slots=True)
class FakePlacement:
    """Where the work is done; the tests' own, so that a change of the real one breaks no stage test."""

    device: str = os.environ.get("KPOD_TEST_DEVICE", "cpu")
    threads: int | None = 1
    processes: int = 1


class ListWriter:
    """Collects records in the list it was given."""

    def __init__(self, rows: list[Any]) -> None:
        self._rows = rows

    def add(self, record: Any) -> None:
        """Append one record."""
        self._rows.append(record)


class FakeContext(Generic[ConfigT]):
    """What a stage is given, in memory.

    Args:
        config: the stage's settings.
        inputs: records by input name; an input that is not named is not wired.
        sources: files and folders by the setting that names them.
        models: folders by the name of a Model input.
        artifacts: folders by content digest.
        seed: the seed of the stage.
        root: where checkpoint, folders and generated texts lie; a private temporary folder without one.
        placement: FakePlacement() unless given.
        budget_usd: what the stage may spend; None: no limit.
        retry_refused: whether refused texts are asked for again.
        stop_at: the call of `progress`, counted from 1, at which the run is interrupted; None: never.
    """

    def __init__(
        self,
        *,
        config: ConfigT,
        inputs: Mapping[str, Sequence[Record]] | None = None,
        sources: Mapping[str, Path] | None = None,
        models: Mapping[str, Path] | None = None,
        artifacts: Mapping[str, Path] | None = None,
        seed: int = 0,
        root: Path | None = None,
        placement: Any = None,
        budget_usd: float | None = None,
        retry_refused: bool = False,
        stop_at: int | None = None,
    ) -> None:
        self.config = config
        self.seed = seed
        self.placement: Any = placement or FakePlacement()
        self.budget = Budget(budget_usd)
        self.retry_refused = retry_refused
        self.outputs: dict[str, list[Any]] = {}
        self.folders: dict[str, Path] = {}
        self.points: dict[str, Path] = {}
        self.references: list[str] = []
        self.notes: dict[str, Any] = {}
        self.steps: list[tuple[float, float, str, dict[str, float]]] = []
        self._inputs = dict(inputs or {})
        self._sources = dict(sources or {})
        self._models = dict(models or {})
        self._artifacts = dict(artifacts or {})
        self._stop_at = stop_at
        self._temporary = None if root else tempfile.TemporaryDirectory(prefix="kpod-fake-")
        self._root = root or Path(self._temporary.name if self._temporary else "")
        self._records: TextStore | None = None

    @property
    def checkpoint(self) -> Path:
        folder = self._root / "checkpoint"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def logs(self) -> Path:
        return self._root / "run" / "trackers" / "unit"

    @property
    def records(self) -> TextStore:
        if self._records is None:
            self._records = TextStore(self._root / "texts.sqlite")
        return self._records

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.records, run="run", unit="unit")

    @property
    def should_stop(self) -> bool:
        return self._stop_at is not None and len(self.steps) + 1 >= self._stop_at

    def rows(self, output: str) -> list[Any]:
        """What was written to an output; a KeyError where it was never opened."""
        return self.outputs[output]

    def read(self, source: Input[RecordT]) -> Iterator[RecordT]:
        yield from self._inputs.get(source.name, ())  # type: ignore[misc]

    def is_wired(self, source: Input[RecordT]) -> bool:
        return source.name in self._inputs or source.name in self._models

    def digest(self, source: Input[RecordT]) -> str:
        if source.name in self._models:
            folder = self._models[source.name]
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            return content_id(*[(path.name, path.read_bytes().hex()) for path in files])
        return content_id(*[repr(record) for record in self._inputs.get(source.name, ())])

    def path(self, source: Input[Model]) -> Path:
        return self._models[source.name]

    def artifact(self, digest: str) -> Path:
        return self._artifacts[digest]

    def pointed(self, folder: Path) -> Path | None:
        return self.points.get(str(folder))

    def source(self, setting: str) -> Path:
        return self._sources[setting]

    @contextmanager
    def write(self, output: Output[RecordT]) -> Iterator[ListWriter]:
        yield ListWriter(self.outputs.setdefault(output.name, []))

    @contextmanager
    def folder(self, output: Output[Model]) -> Iterator[Path]:
        folder = self._root / "outputs" / output.name
        folder.mkdir(parents=True, exist_ok=True)
        self.folders[output.name] = folder
        yield folder

    def point(self, output: Output[Model], target: Path) -> None:
        """Kept under the output's name, and under the path of its folder for `pointed`."""
        self.points[output.name] = target
        if output.name in self.folders:
            self.points[str(self.folders[output.name])] = target

    def refer(self, digest: str) -> None:
        self.references.append(digest)

    def progress(self, done: float, total: float, *, unit: str = "", **facts: float) -> None:
        self.steps.append((done, total, unit, facts))
        if self._stop_at is not None and len(self.steps) >= self._stop_at:
            raise Interrupted("interrupted by the test")

    def note(self, key: str, value: object) -> None:
        self.notes[key] = value
