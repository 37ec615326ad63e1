"""A whole run as one file, to be carried to another machine: a tar archive, the same bytes for the same run."""

from __future__ import annotations

import gzip
import shutil
import tarfile
import uuid
import zlib
from contextlib import suppress
from pathlib import Path

from kpod.runner.archive import Archive
from kpod.runner.disk import disk_problem
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
        KpodError: the run is damaged, the file is there, or it cannot be written.
    """
    found = list(damage(archive))
    if found:
        raise KpodError(
            f"{archive.name} is not whole: {_some(found)}\n`kpod archive verify {archive.name}` tells all of it"
        )
    if to.exists():
        raise KpodError(f"{to} is there already\nname another file with --to, or move it away")
    part = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
    try:
        _pack(archive, part)
        part.replace(to)
        return to.stat().st_size
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise disk_problem(error) or KpodError(
            f"cannot write {to}: {said}\nname another file with --to"
        ) from error
    finally:
        with suppress(
            OSError
        ):  # it was never made: a read-only disk says so of what is not there, too
            part.unlink()


def _pack(archive: Archive, part: Path) -> None:
    # Level 1: texts shrink to a fifth, weights hardly at any level.
    with (
        part.open("wb") as raw,
        gzip.GzipFile("", "wb", 1, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(files_below(archive.folder)):
            _add(tar, path, f"{archive.name}/{path.relative_to(archive.folder).as_posix()}")


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
        KpodError: the file is none of these, damaged, such a run is there already, or the folder cannot be written.
    """
    draft = runs / f".import-{uuid.uuid4().hex[:8]}"
    try:
        draft.mkdir(parents=True)
        _unpack(file, draft)
        target = runs / _sound_run(file, draft).name
        if target.exists():
            raise KpodError(f"the run {target} is there already; nothing was imported")
        (draft / target.name).rename(target)
        return Archive(target)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise disk_problem(error) or KpodError(
            f"cannot write in the runs folder {runs}: {said}; nothing was imported\nname another one with --runs DIR"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _sound_run(file: Path, draft: Path) -> Path:
    """The only run among what was unpacked, every byte of it what it was."""
    folders = [
        path
        for path in draft.iterdir()
        if not path.name.startswith(".") and (path / "run.json").is_file()
    ]
    if len(folders) != 1:
        raise KpodError(f"{file} holds no complete run\n`kpod archive export RUN` writes one")
    try:
        found = list(damage(Archive(folders[0])))
    except KpodError as error:
        raise KpodError(f"{file}: nothing was imported\n{error}") from None
    if found:
        raise KpodError(f"{file} is damaged: {_some(found)}; nothing was imported")
    return folders[0]


def _some(found: list[str]) -> str:
    """The first few of many."""
    more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
    return "; ".join(found[:5]) + more


def _unpack(file: Path, folder: Path) -> None:
    """All members below the folder: files and folders alone, nothing that leads out of it."""
    if file.is_dir():
        raise KpodError(
            f"{file} is a folder, not a file that `kpod archive export` wrote; a run's folder is copied into the runs as it is"
        )
    try:
        with tarfile.open(file, "r:gz") as tar:
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise KpodError(
                        f"{file} holds '{member.name}', which is neither a file nor a folder; nothing was imported\nno export writes that"
                    )
                tar.extract(member, folder, filter="data")  # refuses what is absolute or leads out
            assert tar.fileobj is not None
            while tar.fileobj.read(1 << 20):
                pass  # to the end, where the checksum of the whole stands
    except FileNotFoundError:
        raise KpodError(f"there is no file {file}") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        problem = disk_problem(error) if isinstance(error, OSError) else None
        raise problem or KpodError(
            f"{file} cannot be unpacked: {error}; nothing was imported\n`kpod archive export RUN` writes it anew"
        ) from error
