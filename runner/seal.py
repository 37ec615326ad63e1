"""A run's facts, sealed: its own digest and those of the files beside it, so that a change by hand or by a disk is noticed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner.canonical import digest_of
from kpod.runner.memo import hash_file

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

_FILES = ("recipe.yaml", "resolved.yaml", "origins.json")


def seal(facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The facts with a seal over them and over the small files of the run's folder."""
    files = {name: hash_file(folder / name) for name in _FILES if (folder / name).exists()}
    sealed = {**facts, "files": files}
    return {**sealed, "seal": digest_of(sealed)}


def is_whole(facts: Mapping[str, Any]) -> bool:
    """Whether sealed facts are what they were; those of a kpod that did not seal are taken as they are."""
    return "seal" not in facts or facts["seal"] == digest_of(
        {name: value for name, value in facts.items() if name != "seal"}
    )


def damage(archive: Archive) -> Iterator[str]:
    """What of a run is gone or not what it was, in words: its small files, and every output that it holds.

    Raises:
        KpodError: run.json itself is not whole.
    """
    for name, digest in archive.facts.get("files", {}).items():
        yield from _compare(archive.folder / name, digest, name)
    for unit in archive.units.values():
        for name, output in unit.manifest.outputs.items():
            folder = archive.output_path(unit, name).parent
            for file in output.files:
                yield from _compare(folder / file.path, file.sha256, f"{unit.name}: {file.path}")


def _compare(path: Path, digest: str, name: str) -> Iterator[str]:
    try:
        found = hash_file(path)
    except FileNotFoundError:
        yield f"{name} is gone"
        return
    if found != digest:
        yield f"{name} was changed"
