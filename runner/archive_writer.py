"""Writes one run's folder, from its start to run.json: whatever else is there, a run without that file did not come to its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpod.runner import document
from kpod.runner.archive import FORMAT, unit_folder
from kpod.runner.canonical import digest_of, pretty_json
from kpod.runner.copies import copy_whole, link_or_copy
from kpod.runner.disk import DISK, Disk, disk_problem
from kpod.runner.errors import KpodError
from kpod.runner.events import utc_now
from kpod.runner.recipe import Recipe
from kpod.runner.seal import seal
from kpod.runner.store import Entry


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
        """Write run.json, sealed: from now on the run is complete, and a change of it is noticed."""
        sealed = seal({"format": FORMAT, **facts}, self.folder)
        self.disk.write_text(self.folder / "run.json.part", pretty_json(sealed))
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
