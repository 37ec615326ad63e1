"""What a run leaves behind: everything needed to explain it, compare it and run it again, in one folder.

runs/<UTC stamp>-<name>-<key6>/ holds recipe.yaml (as given), resolved.yaml (running it gives the same keys), origins.json,
events.jsonl, stages/<id>/ (links into the store, so that the archive survives its clean-up), inputs/ (the local files it
read), and run.json, written last: a run without it is resumable, never complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kpod.runner import document
from kpod.runner.errors import KpodError, nearest
from kpod.runner.events import read_events
from kpod.runner.manifest import Manifest
from kpod.runner.record import Metric, Prediction, Record
from kpod.runner.seal import ADVICE, check_file, other_form, read_facts

FORMAT = 1
RecordT = TypeVar("RecordT", bound=Record)


class OtherRecord(KpodError, TypeError):
    """A line of an archived output is no record of the type that is read: another type, or that of another kpod."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedUnit:
    """One unit of an archived run.

    Args:
        name, stage, element: `scores[kpod]`, `scores`, `kpod` (None where the stage is one unit).
        status, reason: what became of it and why.
        config: its settings, `auto` resolved.
        manifest: of the result.
    """

    name: str
    stage: str
    element: str | None
    uses: str
    status: str
    reason: str
    seconds: float
    config: dict[str, Any]
    wires: dict[str, list[str]]
    manifest: Manifest


class Archive:
    """One run's folder, for reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sound: set[Path] = set()

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def is_complete(self) -> bool:
        """Whether the run came to its end."""
        return (self.folder / "run.json").exists()

    @property
    def end(self) -> str:
        """How a run without run.json ended, in one line: failed, stopped, or not told (killed, or still running)."""
        ends = [row for row in self.events() if row["event"] in {"run_failed", "run_interrupted"}]
        if not ends:
            return "unfinished"
        last = ends[-1]
        verb = "failed" if last["event"] == "run_failed" else "stopped"
        return f"{verb}: {' '.join(str(last.get('reason', 'no reason was written')).split())}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """run.json.

        Raises:
            KpodError: the run is not complete, of another version, or changed afterwards.
        """
        if not self.is_complete:
            raise KpodError(
                f"{self.name} did not come to its end ({self.end})\nkpod resume {self.name} goes on with it"
            )
        return read_facts(self.folder, version=FORMAT)

    @cached_property
    def units(self) -> dict[str, ArchivedUnit]:
        """The units of the run, in the order in which they ran."""
        try:
            return {
                row["name"]: ArchivedUnit(
                    **{**row, "manifest": Manifest.from_json(json.dumps(row["manifest"]))}
                )
                for row in self.facts["units"]
            }
        except (TypeError, KeyError, AttributeError) as error:
            raise KpodError(other_form(self.name, str(error))) from None

    @cached_property
    def origins(self) -> dict[str, str]:
        """Where each value of the recipe came from, by dotted name."""
        path = self.checked("origins.json")
        try:
            origins: dict[str, str] = json.loads(path.read_bytes())
        except ValueError:
            raise KpodError(f"{path} is cut or overwritten\n{ADVICE}") from None
        return origins

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The resolved recipe."""
        plain: dict[str, Any] = document.plain(
            document.load_document(self.checked("resolved.yaml"))
        )
        return plain

    def checked(self, name: str) -> Path:
        """Where a small file of the run lies (recipe.yaml, resolved.yaml, origins.json), once it is known to be what it was.

        Raises:
            KpodError: it is gone, or was changed after the run ended.
        """
        digest = self.facts.get("files", {}).get(name) if self.is_complete else None
        return self._as_it_was(self.folder / name, digest)

    def events(self) -> Iterator[dict[str, Any]]:
        """What happened, in order."""
        rows: Iterator[Any] = read_events(self.folder / "events.jsonl")
        return (row for row in rows if isinstance(row, dict) and "event" in row)

    def output_path(self, unit: ArchivedUnit, output: str) -> Path:
        """Where an output lies in the archive."""
        stored = unit.manifest.outputs[output]
        return unit_folder(self.folder, unit.stage, unit.element) / (
            output if stored.num_records is None else f"{output}.jsonl"
        )

    def read(self, unit: ArchivedUnit, output: str, record: type[RecordT]) -> Iterator[RecordT]:
        """The records of an archived output.

        Raises:
            KpodError: the file is gone from the archive, or is not what it was.
            OtherRecord: it holds records of another type.
        """
        for number, row in enumerate(self.rows(unit, output), 1):
            try:
                one = record.from_row(row)
            except (TypeError, KeyError, ValueError) as error:
                raise OtherRecord(
                    f"{self.output_path(unit, output)}: record {number} is no {record.__name__} of this kpod: {error}\n"
                    "read it with the kpod that wrote it, or run its recipe again"
                ) from None
            yield one

    def rows(self, unit: ArchivedUnit, output: str) -> Iterator[dict[str, Any]]:
        """As `read`, each record as the JSON object that it is stored as."""
        import orjson

        with self._records(unit, output).open("rb") as lines:
            for line in lines:
                yield orjson.loads(line)

    def content(self, unit: ArchivedUnit, output: str) -> bytes:
        """As `read`, all records as the bytes that they are stored as, one a line."""
        return self._records(unit, output).read_bytes()

    def _records(self, unit: ArchivedUnit, output: str) -> Path:
        files = unit.manifest.outputs[output].files
        digest = files[0].sha256 if len(files) == 1 else None
        return self._as_it_was(self.output_path(unit, output), digest)

    def _as_it_was(self, path: Path, digest: str | None) -> Path:
        """The path of a file that is there and has its digest, where one is known; each is read through once."""
        if path not in self._sound:
            check_file(path, digest)
            self._sound.add(path)
        return path

    def predictions(self, arm: str) -> list[Prediction]:
        """What an evaluated arm said to every question."""
        return list(self.read(self.scored()[arm], "predictions", Prediction))

    def metrics(self) -> dict[str, Metric]:
        """The score of every evaluated arm, in the order of the recipe."""
        return {
            arm: next(self.read(unit, "metrics", Metric)) for arm, unit in self.scored().items()
        }

    def records(self, stage: str, output: str) -> list[dict[str, Any]]:
        """The records of an output of a stage (`train` of `questions`), each as a JSON object: what a data frame is made of.

        Raises:
            KpodError: the run has no such stage, or the stage no such output of records.
        """
        units = [unit for unit in self.units.values() if stage in {unit.stage, unit.name}]
        holds = [
            unit for unit in units
            if output in unit.manifest.outputs and unit.manifest.outputs[output].num_records is not None
        ]  # fmt: skip
        if not holds:
            allowed = dict.fromkeys(
                f"{unit.stage}.{name}"
                for unit in self.units.values()
                for name, stored in unit.manifest.outputs.items()
                if stored.num_records is not None
            )
            raise KpodError(
                f"{self.name} has no records {stage}.{output}\nallowed: {', '.join(allowed)}"
            )
        return [row for unit in holds for row in self.rows(unit, output)]

    def scored(self) -> dict[str, ArchivedUnit]:
        """The units that scored a model, by the arm's name; by their own where the recipe has several evaluations."""
        scored = [
            unit
            for unit in self.units.values()
            if "metrics" in unit.manifest.outputs and unit.element
        ]
        is_one_stage = len({unit.stage for unit in scored}) == 1
        return {str(unit.element) if is_one_stage else unit.name: unit for unit in scored}


def unit_folder(folder: Path, stage: str, element: str | None) -> Path:
    """Where a unit's outputs lie below an archive's folder."""
    return folder / "stages" / stage if element is None else folder / "stages" / stage / element


def find_run(name: str, runs: Path) -> Archive:
    """The run that a person means: a folder, its name, an unambiguous part of it, or `last` (complete).

    Raises:
        KpodError: there is none, or several.
    """
    if _is_run(Path(name)):
        return Archive(Path(name).absolute())
    archives = list_runs(runs)
    if name == "last":
        complete = [archive for archive in archives if archive.is_complete]
        if not complete:
            raise KpodError(f"there is no complete run in {runs}")
        return complete[-1]
    fitting = [archive for archive in archives if archive.name == name] or [
        a for a in archives if name in a.name
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise KpodError(
            f"'{name}' fits {len(fitting)} runs\nallowed: {', '.join(a.name for a in fitting[-8:])}"
        )
    if name in {path.parent.name for path in runs.glob("*/sweep.json")}:
        raise KpodError(f"{name} is a sweep, no run\nname one of its runs: its sweep.json has them")
    hint = nearest(name, [a.name for a in archives]) or "kpod runs lists them"
    raise KpodError(f"there is no run '{name}' in {runs}\n{hint}")


def list_runs(runs: Path) -> list[Archive]:
    """All runs of a folder, the oldest first; what else lies there is none.

    Raises:
        KpodError: the folder may not be read.
    """
    try:
        names = list(runs.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise KpodError(
            f"the runs folder {runs} cannot be read: {said}\nname another one with --runs DIR"
        ) from None
    folders = (path for path in names if not path.name.startswith(".") and _is_run(path))
    return [Archive(path) for path in sorted(folders, key=_age)]


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "resolved.yaml").is_file()
    except OSError:  # it may not be looked into, or is no name of a folder at all
        return False


def _age(folder: Path) -> tuple[str, int, str]:
    """Orders runs by their stamp, those of one second by when they came to their end."""
    last = folder / "run.json"
    try:
        ended_ns = (last if last.exists() else folder).stat().st_mtime_ns
    except OSError:  # it is being removed at this moment
        ended_ns = 0
    return folder.name.partition("-")[0], ended_ns, folder.name
