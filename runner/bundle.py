"""A whole run as one file, to be carried to another machine: a tar archive, the same bytes for the same run."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import uuid
from pathlib import Path

from kpod.runner.archive import Archive
from kpod.runner.errors import KpodError
from kpod.runner.memo import files_below
from kpod.runner.seal import damage

SUFFIX = ".kpod.tar.gz"


def export_run(archive: Archive, to: Path) -> int:
    """Write a run into one file; its size in bytes.

    Args:
        archive: complete.
        to: the file, which must not be there.

    Raises:
        KpodError: the run is damaged, or the file is there.
    """
    found = list(damage(archive))
    if found:
        raise KpodError(f"{archive.name} is not whole: {'; '.join(found[:5])}")
    if to.exists():
        raise KpodError(f"{to} is there already\nname another file with --to, or move it away")
    part = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
    try:
        # Level 1: texts shrink to a fifth, weights hardly at any level.
        with (
            part.open("wb") as raw,
            gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(files_below(archive.folder)):
                _add(tar, path, f"{archive.name}/{path.relative_to(archive.folder).as_posix()}")
        part.replace(to)
    finally:
        part.unlink(missing_ok=True)
    return to.stat().st_size


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    """A file without what belongs to this machine: owner, times, rights."""
    facts = tarfile.TarInfo(name)
    facts.size = path.stat().st_size
    facts.mode = 0o644
    with path.open("rb") as file:
        tar.addfile(facts, file)


def import_run(file: Path, runs: Path) -> Archive:
    """Unpack a run and check it, byte by byte, before it takes its place.

    Args:
        file: from `export_run`.
        runs: folder of the archives.

    Raises:
        KpodError: the file is none of these, damaged, or such a run is there already.
    """
    draft = runs / f".import-{uuid.uuid4().hex[:8]}"
    draft.mkdir(parents=True)
    try:
        _unpack(file, draft)
        folders = [path for path in draft.iterdir() if (path / "run.json").exists()]
        if len(folders) != 1:
            raise KpodError(f"{file} holds no complete run\n`kpod archive export RUN` writes one")
        found = list(damage(Archive(folders[0])))
        if found:
            raise KpodError(f"{file} is damaged: {'; '.join(found[:5])}; nothing was imported")
        target = runs / folders[0].name
        if target.exists():
            raise KpodError(f"the run {target} is there already; nothing was imported")
        folders[0].rename(target)
        return Archive(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _unpack(file: Path, folder: Path) -> None:
    try:
        with tarfile.open(file, "r:gz") as tar:
            tar.extractall(
                folder, filter="data"
            )  # refuses absolute names, .., devices and links that lead out
    except FileNotFoundError:
        raise KpodError(f"there is no file {file}") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise KpodError(f"{file} cannot be unpacked: {error}; nothing was imported") from error
