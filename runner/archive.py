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
from kpod.runner.seal import is_whole

FORMAT = 1
RecordT = TypeVar("RecordT", bound=Record)


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
        last = next(
            (
                row
                for row in reversed(list(self.events()))
                if row["event"] in {"run_failed", "run_interrupted"}
            ),
            None,
        )
        if last is None:
            return "unfinished"
        verb = "failed" if last["event"] == "run_failed" else "stopped"
        return f"{verb}: {' '.join(str(last['reason']).split())}"

    @cached_property
    def facts(self) -> dict[str, Any]:
        """run.json.

        Raises:
            KpodError: the run is not complete, of another version, or changed afterwards.
        """
        path = self.folder / "run.json"
        if not path.exists():
            raise KpodError(
                f"{self.name} did not come to its end ({self.end}); the same command continues it"
            )
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if facts.get("format") != FORMAT:
            raise KpodError(
                f"{self.name} has archive format {facts.get('format')}, this kpod reads {FORMAT}"
            )
        if not is_whole(facts):
            raise KpodError(
                f"{self.name}: run.json is not what it was when the run ended; nothing in it can be trusted\n"
                "take it from a copy, or run the recipe again: what is stored is found"
            )
        return facts

    @cached_property
    def units(self) -> dict[str, ArchivedUnit]:
        """The units of the run, in the order in which they ran."""
        return {
            row["name"]: ArchivedUnit(
                **{**row, "manifest": Manifest.from_json(json.dumps(row["manifest"]))}
            )
            for row in self.facts["units"]
        }

    @cached_property
    def origins(self) -> dict[str, str]:
        """Where each value of the recipe came from, by dotted name."""
        origins: dict[str, str] = json.loads(
            (self.folder / "origins.json").read_text(encoding="utf-8")
        )
        return origins

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The resolved recipe."""
        plain: dict[str, Any] = document.plain(
            document.load_document(self.folder / "resolved.yaml")
        )
        return plain

    def events(self) -> Iterator[dict[str, Any]]:
        """What happened, in order."""
        return read_events(self.folder / "events.jsonl")

    def output_path(self, unit: ArchivedUnit, output: str) -> Path:
        """Where an output lies in the archive."""
        stored = unit.manifest.outputs[output]
        return unit_folder(self.folder, unit.stage, unit.element) / (
            output if stored.num_records is None else f"{output}.jsonl"
        )

    def read(self, unit: ArchivedUnit, output: str, record: type[RecordT]) -> Iterator[RecordT]:
        """The records of an archived output.

        Raises:
            KpodError: the file is gone from the archive.
        """
        return map(record.from_row, self.rows(unit, output))

    def rows(self, unit: ArchivedUnit, output: str) -> Iterator[dict[str, Any]]:
        """As `read`, each record as the JSON object that it is stored as."""
        import orjson

        path = self.output_path(unit, output)
        if not path.exists():
            raise KpodError(
                f"{path} is gone from the archive; run the same command again to put it back"
            )
        with path.open("rb") as lines:
            for line in lines:
                yield orjson.loads(line)

    def predictions(self, arm: str) -> list[Prediction]:
        """What an evaluated arm said to every question."""
        return list(self.read(self.scored()[arm], "predictions", Prediction))

    def metrics(self) -> dict[str, Metric]:
        """The score of every evaluated arm, in the order of the recipe."""
        return {
            arm: next(self.read(unit, "metrics", Metric)) for arm, unit in self.scored().items()
        }

    def records(self, stage: str, output: str) -> list[dict[str, Any]]:
        """The records of an output of a stage (`verified`, `rationales`), each as a JSON object: what a data frame is made of.

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
    if Path(name).is_dir() and (Path(name) / "resolved.yaml").exists():
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
    raise KpodError(
        f"there is no run '{name}' in {runs}\n{nearest(name, [a.name for a in archives]) or 'kpod runs lists them'}"
    )


def list_runs(runs: Path) -> list[Archive]:
    """All runs of a folder, the oldest first."""
    if not runs.is_dir():
        return []
    folders = (
        path
        for path in runs.iterdir()
        if not path.name.startswith(".") and (path / "resolved.yaml").exists()
    )
    return [Archive(path) for path in sorted(folders, key=_age)]


def _age(folder: Path) -> tuple[str, int, str]:
    """Orders runs by their stamp, those of one second by when they came to their end."""
    last = folder / "run.json"
    ended_ns = (last if last.exists() else folder).stat().st_mtime_ns
    return folder.name.partition("-")[0], ended_ns, folder.name
