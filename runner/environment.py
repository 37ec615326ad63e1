"""What a run ran on and with: packages, Python, machine, git state. Facts for the archive; few of them reach a key."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner.canonical import digest_of
from kpod.runner.memo import Memo

if TYPE_CHECKING:
    from importlib.metadata import Distribution


def package_versions(memo: Memo) -> dict[str, str]:
    """Installed distributions and their versions; read again only when a folder of the search path changed."""
    folders = [Path(place) for place in sys.path if place and Path(place).is_dir()]
    name = digest_of([[str(folder), folder.stat().st_mtime_ns] for folder in folders])
    known = memo.get("packages", name)
    if known is not None:
        versions: dict[str, str] = json.loads(known)
        return versions
    from importlib.metadata import distributions

    versions = dict(sorted(_name_and_version(dist) for dist in distributions()))
    memo.put("packages", name, json.dumps(versions))
    return versions


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """From the first lines of its metadata; parsing all of it, long description and all, takes ten times as long."""
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    fields = (line.partition(": ") for line in text.partition("\n\n")[0].splitlines())
    head = {name: value.strip() for name, _, value in reversed([*fields])}
    return head.get("Name", "none").lower(), head.get("Version", "none")


def machine_facts() -> dict[str, Any]:
    """Python, operating system and processor."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "executable": sys.executable,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    return platform.processor()


def git_state(folder: Path, *, with_status: bool) -> dict[str, Any] | None:
    """Commit of the repository that holds a folder; None outside of git.

    Args:
        folder: anywhere in the work tree.
        with_status: also ask git whether tracked files differ from the commit (a process; skipped where nothing ran).
    """
    top = next(
        (parent / ".git" for parent in (folder, *folder.parents) if (parent / ".git").exists()),
        None,
    )
    if top is None:
        return None
    return {"commit": _head(top), "is_dirty": _is_dirty(folder) if with_status else None}


def _head(top: Path) -> str | None:
    """The commit that HEAD names, read from git's own files; None where it is kept elsewhere (a linked work tree)."""
    try:
        head = (top / "HEAD").read_text(encoding="utf-8").strip()
        name = head.removeprefix("ref: ")
        if name == head:
            return head
        if (top / name).exists():
            return (top / name).read_text(encoding="utf-8").strip()
        packed = (top / "packed-refs").read_text(encoding="utf-8").splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {name}")), None)
    except OSError:
        return None


def _is_dirty(folder: Path) -> bool | None:
    import subprocess

    words = ["git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603 - fixed words
    except (OSError, subprocess.SubprocessError):
        return None
    return bool(done.stdout.strip())
