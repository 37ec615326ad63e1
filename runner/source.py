"""What a stage reads from outside the recipe: its content, not its name, stands in the key."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file, or a folder taken as all its files, on this machine (absolute path)."""

    path: str
    how_to_get: str = ""


@dataclass(frozen=True, slots=True)
class PackageFile:
    """A file or folder that an installed Python package ships, found without importing the package."""

    package: str
    file: str
    how_to_get: str = ""


@dataclass(frozen=True, slots=True)
class HubRepository:
    """A repository on the hub; a name without a revision is resolved to a commit once and remembered."""

    name: str
    kind: str
    """model or dataset"""
    revision: str | None = None


Source = LocalFile | PackageFile | HubRepository
