"""The store: results by key. An entry is there whole or not at all, at whatever instant the process dies.

Layout below the root: entries/<kk>/<key>/{manifest.json, <output>.jsonl | <output>/…}, outputs/<dd>/<digest> (which key
made a content), partial/<key>/ (checkpoints of interrupted stages), tmp/, locks/, quarantine/, memo.sqlite, texts.sqlite.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kpod.runner.disk import DISK, Disk
from kpod.runner.manifest import Manifest
from kpod.runner.memo import Memo, files_below, hash_file
from kpod.runner.texts import TextStore

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A published result."""

    folder: Path
    manifest: Manifest

    def path(self, output: str) -> Path:
        """The file or the folder of an output."""
        records = self.folder / f"{output}.jsonl"
        return (
            records
            if self.manifest.outputs[output].num_records is not None
            else self.folder / output
        )


class Store:
    """Results by key, below one folder that runs, machines and people may share."""

    def __init__(self, root: Path, *, disk: Disk = DISK) -> None:
        self.root = root.absolute()
        self.disk = disk
        self.memo = Memo(self.root / "memo.sqlite")
        self.texts = TextStore(self.root / "texts.sqlite")

    def entry_folder(self, key: str) -> Path:
        """Where the entry of a key is, or would be."""
        return self.root / "entries" / key[:2] / key

    def get(self, key: str) -> Entry | None:
        """The entry of a key: a hit has a manifest, all its files in their sizes, and what it points to."""
        folder = self.entry_folder(key)
        try:
            manifest = Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            self.quarantine(key, "its manifest cannot be read")
            return None
        for output in manifest.outputs.values():
            if output.pointer is not None and not Path(output.pointer).exists():
                return None
            for file in output.files:
                size_b = _size_of(folder / file.path)
                if size_b != file.size_b:
                    what = (
                        "is gone" if size_b is None else "has not the size that its manifest says"
                    )
                    self.quarantine(key, f"{file.path} {what}")
                    return None
        return Entry(folder, manifest)

    def verify(self, entry: Entry) -> list[str]:
        """Read every file of an entry, and what it points to, and compare with the manifest; what differs."""
        outputs = entry.manifest.outputs.values()
        pointed = [output for output in outputs if output.pointer is not None]
        return [
            file.path
            for output in outputs
            for file in output.files
            if _digest_or_none(entry.folder / file.path) != file.sha256
        ] + [
            str(output.pointer)
            for output in pointed
            if self._content(output.pointer) != output.pointed_digest
        ]

    def _content(self, pointer: str | None) -> str | None:
        """Content digest of what a pointer leads to; not read again while its files stand still."""
        try:
            return self.memo.content_digest(Path(pointer or ""))
        except OSError:
            return None

    def quarantine(self, key: str, reason: str) -> None:
        """Move an entry out of the way, with the reason beside it; the key is a miss from now on."""
        target = self.root / "quarantine" / f"{key}-{uuid.uuid4().hex[:6]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.entry_folder(key).rename(target)
        except FileNotFoundError:
            return
        (target / "why.txt").write_text(reason + "\n", encoding="utf-8")

    def quarantined(self) -> list[tuple[str, str]]:
        """(folder name, reason) of everything that was moved out of the way."""
        folder = self.root / "quarantine"
        if not folder.exists():
            return []
        return [(path.name, _why(path)) for path in sorted(folder.iterdir())]

    @contextmanager
    def drafting(self, key: str) -> Iterator[Path]:
        """A private folder on the store's file system, gone afterwards unless it was published."""
        draft = self.root / "tmp" / f"{key[:16]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.disk.make_folder(draft)
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def publish(self, draft: Path, manifest: Manifest) -> Entry:
        """Make a draft an entry: files synced, manifest last, folder synced, one rename.

        Where another process published the same key meanwhile, theirs stays.
        """
        for path in files_below(draft):
            path.chmod(0o444)  # archives hold the very same files
            self.disk.sync(path)
        self.disk.write_text(draft / "manifest.json", manifest.to_json())
        self.disk.sync_folders(draft)
        folder = self.entry_folder(manifest.key)
        self.disk.make_folder(folder.parent)
        entry = self.get(manifest.key)
        if entry is None:
            self.quarantine(manifest.key, "it was no hit any more when its result was made again")
            self.disk.rename(draft, folder)
            entry = Entry(folder, manifest)
        for output in entry.manifest.outputs.values():
            self.index(output.digest, manifest.key)
        shutil.rmtree(self.partial(manifest.key), ignore_errors=True)
        return entry

    def index(self, digest: str, key: str) -> None:
        """Note which entry holds a content."""
        path = self.root / "outputs" / digest[:2] / digest
        self.disk.make_folder(path.parent)
        self.disk.replace_text(path, key)

    def find_output(self, digest: str) -> tuple[Entry, str] | None:
        """The entry that holds a content, and the name of the output."""
        index = self.root / "outputs" / digest[:2] / digest
        first = [index.read_text(encoding="utf-8")] if index.exists() else []
        for key in chain(first, self.keys()):
            entry = self.get(key)
            if entry is not None:
                for name, output in entry.manifest.outputs.items():
                    if output.digest == digest:
                        return entry, name
        return None

    def keys(self) -> Iterator[str]:
        """Keys of all entries."""
        root = self.root / "entries"
        if root.exists():
            for group in sorted(root.iterdir()):
                yield from sorted(path.name for path in group.iterdir())

    def touch(self, key: str) -> None:
        """Say that an entry is used now: clean-up keeps what was used lately."""
        with suppress(OSError):  # gone, or a store that may only be read
            os.utime(self.entry_folder(key) / "manifest.json")

    def partial(self, key: str) -> Path:
        """The folder that an unfinished stage keeps between interruptions (not created here)."""
        return self.root / "partial" / key

    def lock_path(self, key: str) -> Path:
        """The file that is locked while a key is being made."""
        return self.root / "locks" / f"{key}.lock"

    def remove(self, key: str) -> int:
        """Delete an entry (and what is left unfinished of it); the bytes freed."""
        freed_b = 0
        for folder in (self.entry_folder(key), self.partial(key)):
            if folder.exists():
                freed_b += sum(path.stat().st_size for path in files_below(folder))
                trash = self.root / "tmp" / f"trash-{uuid.uuid4().hex}"
                trash.parent.mkdir(parents=True, exist_ok=True)
                folder.rename(trash)
                shutil.rmtree(trash, ignore_errors=True)
        return freed_b

    def close(self) -> None:
        """Close the databases."""
        self.memo.close()
        self.texts.close()


def _size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _digest_or_none(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:
        return None


def _why(folder: Path) -> str:
    """The reason that was written beside an entry when it was set aside; a kill may have come before it."""
    try:
        return (folder / "why.txt").read_text(encoding="utf-8").strip()
    except OSError:
        return "no reason was written"
