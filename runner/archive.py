"""What a run leaves behind: everything needed to explain it, compare it and run it again, in one folder.

runs/<UTC stamp>-<name>-<key6>/ holds recipe.yaml (as given), resolved.yaml (running it gives the same keys), origins.json,
events.jsonl, stages/<id>/ (links into the store, so that the archive survives its clean-up), inputs/ (the local files it
read), and run.json, written last: a run without it is resumable, never complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from kpod.runner import document
from kpod.runner.canonical import digest_of, pretty_json
from kpod.runner.copies import copy_whole, link_or_copy
from kpod.runner.disk import DISK, Disk, disk_problem
from kpod.runner.errors import KpodError, nearest
from kpod.runner.events import read_events, utc_now
from kpod.runner.manifest import Manifest
from kpod.runner.recipe import Recipe
from kpod.runner.record import Record
from kpod.runner.store import Entry

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
            KpodError: the run is not complete, or of another version.
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


class ArchiveWriter:
    """Writes one run's folder, from its start to run.json."""

    def __init__(self, runs: Path, recipe: Recipe, *, disk: Disk = DISK) -> None:
        self.recipe = recipe
        self.disk = disk
        self.started_at = utc_now()
        stamp = self.started_at.replace("-", "").replace(":", "")
        name = f"{stamp}-{recipe.name}-{digest_of(recipe.resolved())[:6]}"
        self.folder = _new_folder(runs, name)
        (self.folder / "recipe.yaml").write_text(recipe.text, encoding="utf-8")
        (self.folder / "origins.json").write_text(pretty_json(recipe.origins), encoding="utf-8")
        self.write_resolved(recipe.resolved())

    def write_resolved(self, plain: Mapping[str, Any]) -> None:
        """Write the resolved recipe; again once `auto` settings are known."""
        self.disk.replace_text(self.folder / "resolved.yaml", document.dump(dict(plain)))

    def add_unit(self, stage: str, element: str | None, entry: Entry) -> None:
        """Link a unit's outputs into the archive."""
        folder = unit_folder(self.folder, stage, element)
        for output in entry.manifest.outputs.values():
            for file in output.files:
                link_or_copy(entry.folder / file.path, folder / file.path, disk=self.disk)

    def add_input(self, digest: str, source: Path, kept: Path) -> str | None:
        """Archive a local file or folder that a stage read, from the copy that the store keeps; its place in the archive.

        Args:
            digest: of its content.
            source: where it lies.
            kept: the store's copy, made here when it is not there yet.

        Returns:
            The path below the archive's folder, or None where it is too big to be copied, or has changed meanwhile.
        """
        if not kept.exists() and not copy_whole(source, kept, digest=digest):
            return None
        place = f"inputs/{digest[:12]}-{source.name}"
        pairs = [(kept, Path(place))] if kept.is_file() else [
            (path, Path(place) / path.relative_to(kept)) for path in sorted(kept.rglob("*")) if path.is_file()
        ]  # fmt: skip
        for path, name in pairs:
            if not (self.folder / name).exists():
                link_or_copy(path, self.folder / name, disk=self.disk)
        return place

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write run.json: from now on the run is complete."""
        self.disk.write_text(
            self.folder / "run.json.part", pretty_json({"format": FORMAT, **facts})
        )
        (self.folder / "run.json.part").replace(self.folder / "run.json")


def _new_folder(runs: Path, name: str) -> Path:
    """A new folder of that name; numbered where two runs start in one second."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for number in range(1000):
            folder = runs / (name if number == 0 else f"{name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise disk_problem(error) or KpodError(
            f"cannot write in the runs folder {runs}: {error.strerror}\nname another one with --runs DIR"
        ) from error
    raise KpodError(f"a thousand runs named {name} exist already")
