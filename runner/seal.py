"""A run's facts, sealed: its own digest and those of the files beside it, so that a change by hand or by a disk is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from kpod.runner.canonical import digest_of
from kpod.runner.errors import KpodError
from kpod.runner.memo import content_digest, files_below, hash_file

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

_FILES = ("recipe.yaml", "resolved.yaml", "origins.json")
# What every run.json of this format has; the facts that came later (spent, files, seal) may be absent.
_FACTS = (
    "name", "recipe", "seed", "primary", "started_at", "finished_at", "seconds", "rerun_of", "units", "views", "sources",
    "capability", "machine", "packages", "git",
)  # fmt: skip
ADVICE = "take it from a copy, or run the recipe again: what is stored is found"


def seal(facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The facts with a seal over them and over the small files of the run's folder."""
    files = {name: hash_file(folder / name) for name in _FILES if (folder / name).exists()}
    sealed = {**facts, "files": files}
    return {**sealed, "seal": digest_of(sealed)}


def is_whole(facts: Mapping[str, Any]) -> bool:
    """Whether sealed facts are what they were; those of a kpod that did not seal are taken as they are."""
    if "seal" not in facts:
        return True
    try:
        found = digest_of({name: value for name, value in facts.items() if name != "seal"})
    except ValueError:  # a number that is not finite: kpod writes none
        return False
    return bool(facts["seal"] == found)


def read_facts(folder: Path, *, version: int) -> dict[str, Any]:
    """run.json of a complete run.

    Args:
        folder: of the run.
        version: the archive format that is read here.

    Raises:
        KpodError: it cannot be read, is of another version, was changed, or names files outside the run.
    """
    try:
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise KpodError(f"{folder / 'run.json'} cannot be read: {said}") from None
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        raise KpodError(f"{folder.name}: run.json is cut or overwritten\n{ADVICE}")
    if facts.get("format") != version:
        raise KpodError(_other_version(folder, facts.get("format"), version))
    if not is_whole(facts):
        raise KpodError(
            f"{folder.name}: run.json is not what it was when the run ended; nothing in it can be trusted\n{ADVICE}"
        )
    _check_form(folder.name, facts)
    return facts


def _check_form(name: str, facts: Mapping[str, Any]) -> None:
    lacking = [fact for fact in _FACTS if fact not in facts]
    if lacking:
        raise KpodError(other_form(name, f"it lacks {', '.join(lacking)}"))
    try:
        outside = next((place for place in _places(facts) if _leads_out(place)), None)
    except (TypeError, KeyError, AttributeError) as error:
        raise KpodError(other_form(name, repr(error))) from None
    if outside is not None:
        raise KpodError(
            f"{name}: run.json names a file outside of the run: {outside}\nno kpod writes that; do not use it"
        )


def other_form(name: str, reason: str) -> str:
    """The message about facts that this kpod does not understand."""
    return f"{name}: run.json is of another form: {reason}\nread it with the kpod that wrote it, or run its recipe again"


def _other_version(folder: Path, found: object, version: int) -> str:
    is_newer = isinstance(found, int) and found > version
    return (
        f"{folder.name} has archive format {found}, this kpod reads {version}\n"
        f"{'a newer' if is_newer else 'another'} kpod wrote it: read it with that one, or make it again with this one:"
        f" kpod run {folder / 'resolved.yaml'}"
    )


def _places(facts: Mapping[str, Any]) -> Iterator[str]:
    """Everything in run.json that becomes a part of a path below the run's folder."""
    for source in facts["sources"]:
        yield source["archived"] or ""
    for unit in facts["units"]:
        yield from (unit["stage"], unit["element"] or "")
        for name, output in unit["manifest"]["outputs"].items():
            yield from (name, *(file["path"] for file in output["files"]))


def _leads_out(place: str) -> bool:
    return place.startswith("/") or ".." in PurePosixPath(place).parts


def check_file(path: Path, digest: str | None) -> None:
    """Read a file of a run through.

    Args:
        path: the file.
        digest: sha256 of what it was; None where nobody wrote that down.

    Raises:
        KpodError: it is gone, cannot be read, or is not what it was.
    """
    try:
        found = hash_file(path)
    except FileNotFoundError:
        raise KpodError(
            f"{path} is gone from the archive; run the same command again: what is stored is found, and the new archive has it"
        ) from None
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise KpodError(f"{path} cannot be read: {said}") from None
    if digest not in {None, found}:
        raise KpodError(
            f"{path} is not what it was when the run ended, so nothing is read from it\n"
            "take it from a copy, or make it again: `kpod cache verify`, then the same command"
        )


def damage(archive: Archive) -> Iterator[str]:
    """What of a run is gone, was changed or was added, in words: its small files, its inputs, and every output that it holds.

    Raises:
        KpodError: run.json itself is not whole.
    """
    for name, digest in archive.facts.get("files", {}).items():
        yield from _compare(archive.folder / name, digest, name)
    yield from input_damage(archive)
    known: set[Path] = set()
    for unit in archive.units.values():
        for name, output in unit.manifest.outputs.items():
            folder = archive.output_path(unit, name).parent
            for file in output.files:
                known.add(folder / file.path)
                yield from _compare(folder / file.path, file.sha256, f"{unit.name}: {file.path}")
    yield from _added(archive.folder, known)


def input_damage(archive: Archive) -> Iterator[str]:
    """As `damage`, of the inputs that the run keeps copies of."""
    sources = archive.facts["sources"]
    inputs = {row["archived"]: row["fact"].get("sha256") for row in sources if row["archived"]}
    for name, digest in inputs.items():
        if digest is not None:
            yield from _compare(archive.folder / name, digest, name)


def _added(folder: Path, known: set[Path]) -> Iterator[str]:
    """Files below the stages of a run that no stage of it wrote."""
    if not (folder / "stages").is_dir():
        return
    try:
        for path in files_below(folder / "stages"):
            if path not in known:
                yield f"{path.relative_to(folder).as_posix()} was added"
    except OSError as error:  # a link that leads nowhere, a folder that may not be read
        yield f"{error.filename} cannot be read: {(error.strerror or str(error)).lower()}"


def _compare(path: Path, digest: str, name: str) -> Iterator[str]:
    """What became of a file, or of a folder of inputs."""
    try:
        found = content_digest(path)
    except FileNotFoundError:
        yield f"{name} is gone"
    except OSError as error:
        yield f"{name} cannot be read: {(error.strerror or str(error)).lower()}"
    else:
        if found != digest:
            yield f"{name} was changed"
