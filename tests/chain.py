"""Runs recipes of the test plug-in and counts what was executed, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive
from kpod.runner.document import dump
from kpod.runner.session import RunOptions, Session

PLUGIN = Path(__file__).parent / "plugin"


def step(source: str, name: str, **settings: Any) -> dict[str, Any]:
    """A stage that adds one."""
    return {"uses": "chain.step", "in": {"questions": source}, "with": {"add": 1, "name": name, **settings}}  # fmt: skip


def recipe(name: str = "chain", **stages: Any) -> dict[str, Any]:
    """A recipe of these stages."""
    return {"kpod": 1, "name": name, "seed": 0, "stages": stages}


def seven(**changes: Mapping[str, Any]) -> dict[str, Any]:
    """The chain of seven stages; settings of a stage may be changed by its id."""
    stages: dict[str, Any] = {"s1": {"uses": "chain.numbers", "with": {"count": 5}}}
    for number in range(2, 7):
        stages[f"s{number}"] = step(f"s{number - 1}", f"s{number}")
    stages["s7"] = {"uses": "chain.count", "in": {"questions": ["s6"]}}
    for stage_id, settings in changes.items():
        stages[stage_id]["with"] = {**stages[stage_id].get("with", {}), **settings}
    return recipe(**stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A run in this process: what was executed, in order, and its archive."""

    executed: list[str]
    archive: Archive

    @property
    def reasons(self) -> dict[str, str]:
        """Why each unit ran, by name; "" for a hit."""
        return {name: unit.reason for name, unit in self.archive.units.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A folder with a recipe, its runs, its store and the journal of executions."""

    folder: Path
    journal: Path
    name: str = "recipe.yaml"
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def runs(self) -> Path:
        """The folder of archives."""
        return self.folder / "runs"

    @property
    def store(self) -> Path:
        """The folder of results."""
        return self.runs / ".store"

    def write(self, plain: Mapping[str, Any] | str) -> Path:
        """Write the recipe: as data or as text."""
        path = self.folder / self.name
        path.write_text(plain if isinstance(plain, str) else dump(dict(plain)), encoding="utf-8")
        return path

    def session(self, plain: Mapping[str, Any] | str | None = None, **options: Any) -> Session:
        """A session over the recipe; without one, over that which was written last."""
        path = self.folder / self.name if plain is None else self.write(plain)
        return Session(path, RunOptions(runs=options.pop("runs", self.runs), **options))

    def run(self, plain: Mapping[str, Any] | str | None = None, **options: Any) -> Ran:
        """Run the recipe in this process."""
        before = len(self.lines())
        session = self.session(plain, **options)
        try:
            archive = session.run()
        finally:
            session.store.close()
        return Ran(executed=[x for x in self.lines()[before:] if ":" not in x], archive=archive)

    def lines(self) -> list[str]:
        """All lines of the journal: `s4` for an execution, `s4:2` for an item of it."""
        return self.journal.read_text(encoding="utf-8").split() if self.journal.exists() else []

    def executions(self) -> list[str]:
        """The executions among the lines."""
        return [line for line in self.lines() if ":" not in line]

    def start(self, *words: str, plugin: Path = PLUGIN) -> subprocess.Popen[str]:
        """Start `kpod WORDS` in a process of its own, in the folder."""
        environment = {**os.environ, "PYTHONPATH": str(plugin), "KPOD_CHAIN_JOURNAL": str(self.journal), **self.environment}  # fmt: skip
        return subprocess.Popen(
            [sys.executable, "-m", "kpod.runner", *words],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def kpod(self, *words: str, plugin: Path = PLUGIN) -> subprocess.CompletedProcess[str]:
        """Run `kpod WORDS` in a process of its own, to its end."""
        process = self.start(*words, plugin=plugin)
        return finish(process)


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for a process and take what it said."""
    said, complained = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, said, complained)


def output_bytes(archive: Archive) -> dict[str, bytes]:
    """The bytes of every output in an archive, by path below it."""
    top = archive.folder / "stages"
    return {
        str(path.relative_to(top)): path.read_bytes() for path in sorted(top.rglob("*")) if path.is_file()
    }  # fmt: skip


def entry_files(store: Path, pattern: str) -> Sequence[Path]:
    """Files of stored entries, by name."""
    return sorted((store / "entries").glob(f"*/*/{pattern}"))
