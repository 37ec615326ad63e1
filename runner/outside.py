"""What stages read from outside, resolved: where it lies on this machine, and the content that stands in the key."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpod.runner.errors import KpodError
from kpod.runner.memo import Memo
from kpod.runner.source import HubRepository, LocalFile, PackageFile, Source

_COMMIT = re.compile(r"^[0-9a-f]{40}$")


class SourceMissing(KpodError):
    """Something that a stage reads, or a library that it needs, is not on this machine."""


class HubSilent(KpodError):
    """The hub was not asked, or did not answer, which commit a name means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A source on this machine.

    Args:
        fact: what stands in the key: {"sha256": …} or {"hub": …, "commit": …}.
        path: where it lies; None for a hub repository that is not downloaded yet.
        original: the path or name that the recipe gave.
    """

    fact: dict[str, str]
    path: Path | None
    original: str


@dataclass(slots=True, kw_only=True)
class Outside:
    """Finds sources.

    Args:
        memo: remembers digests and commits.
        offline: never ask the hub.
        refresh: ask again for commits that are remembered.
        substitutes: archived copies that stand in for original paths (a rerun).
        commits: archived commits of hub names (a rerun).
    """

    memo: Memo
    offline: bool = False
    refresh: bool = False
    substitutes: Mapping[str, Path] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)

    def find(self, source: Source) -> Found:
        """The source with its content digest, or its commit.

        Raises:
            SourceMissing: it is not there.
            HubSilent: its commit is not known.
        """
        if isinstance(source, LocalFile):
            return self._local(source)
        if isinstance(source, PackageFile):
            return self._package(source)
        name = f"{source.kind}:{source.name}@{source.revision or 'main'}"
        commit = self._commit(source, name)
        return Found(fact={"hub": source.name, "commit": commit}, path=None, original=name)

    def _local(self, source: LocalFile) -> Found:
        path = self.substitutes.get(source.path, Path(source.path))
        if not path.exists():
            raise SourceMissing(
                _advice(f"there is no file or folder {source.path}", source.how_to_get)
            )
        if not (path.is_file() or path.is_dir()):
            raise SourceMissing(f"{source.path} is neither a file nor a folder")
        try:
            digest = self.memo.content_digest(path)
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise SourceMissing(f"{error.filename or source.path} cannot be read: {said}") from None
        return Found(fact={"sha256": digest}, path=path, original=source.path)

    def _package(self, source: PackageFile) -> Found:
        from importlib.util import find_spec

        name = f"{source.package}/{source.file}"
        try:
            spec = find_spec(source.package)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise SourceMissing(
                _advice(f"the package {source.package} is not installed", source.how_to_get)
            )
        path = Path(next(iter(spec.submodule_search_locations))) / source.file
        if not path.exists():
            top = next(above for above in path.parents if above.is_dir())
            names = ", ".join(sorted(n.name for n in top.iterdir() if n.name[0] not in "._")[:12])
            problem = f"the package {source.package} has no {source.file}; {top.name} has: {names}"
            raise SourceMissing(_advice(problem, source.how_to_get))
        return Found(fact={"sha256": self.memo.content_digest(path)}, path=path, original=name)

    def _commit(self, source: HubRepository, name: str) -> str:
        """The commit that a hub name means: given, archived, remembered, in the local cache, or asked for once."""
        if source.revision is not None and _COMMIT.match(source.revision):
            return source.revision
        if name in self.commits:
            return self.commits[name]
        known = None if self.refresh else self.memo.get("hub", name)
        if known is not None:
            return known
        commit = _cached_commit(source) if self.offline or _is_hub_offline() else _ask_hub(source)
        if commit is None:
            raise HubSilent(
                f"the commit of {source.name} ({source.kind}) is not known on this machine, and the hub may not be asked"
                " (offline)\ngive a local folder instead, or run once with a network"
            )
        self.memo.put("hub", name, commit)
        return commit

    def fetch(self, source: Source, found: Found) -> Path:
        """The local path of a source; a hub repository is downloaded at its commit.

        Raises:
            SourceMissing: the download failed.
        """
        if found.path is not None:
            return found.path
        assert isinstance(source, HubRepository)
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

        try:
            folder = snapshot_download(
                source.name, revision=found.fact["commit"], repo_type=source.kind,
                local_files_only=self.offline or _is_hub_offline(),
                ignore_patterns=["*.bin", "*.pt", "*.pth", "*.msgpack", "*.h5", "*.onnx", "*.gguf", "original/*"],
            )  # fmt: skip
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            raise SourceMissing(
                f"{source.name} could not be downloaded from the hub: {error}"
            ) from error
        return Path(folder)


def _advice(problem: str, how_to_get: str) -> str:
    return f"{problem}\n{how_to_get}" if how_to_get else problem


def _is_hub_offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}


def _cached_commit(source: HubRepository) -> str | None:
    """The commit that the hub's own cache on this machine last saw under this name."""
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    reference = (
        cache
        / f"{source.kind}s--{source.name.replace('/', '--')}"
        / "refs"
        / (source.revision or "main")
    )
    return reference.read_text(encoding="utf-8").strip() if reference.exists() else None


def _ask_hub(source: HubRepository) -> str | None:
    from huggingface_hub import HfApi

    try:
        facts: Any = HfApi().repo_info(source.name, revision=source.revision, repo_type=source.kind)
    except Exception as error:
        cached = _cached_commit(source)
        if cached is not None:
            return cached
        raise HubSilent(
            f"the hub did not say which commit {source.name} is: {type(error).__name__}: {error}"
        ) from error
    return str(facts.sha)
