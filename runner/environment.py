"""What a run ran on and with: packages, Python, machine, git state. Facts for the archive; few of them reach a key."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from kpod.runner.memo import Memo


def package_versions(memo: Memo) -> dict[str, str]:
    """Installed distributions and their versions; read again only when site-packages changed."""
    folder = Path(sysconfig.get_path("purelib"))
    name = f"{folder}|{folder.stat().st_mtime_ns}"
    known = memo.get("packages", name)
    if known is not None:
        versions: dict[str, str] = json.loads(known)
        return versions
    from importlib.metadata import distributions

    found = {str(dist.metadata["Name"]).lower(): dist.version for dist in distributions()}
    versions = dict(sorted(found.items()))
    memo.put("packages", name, json.dumps(versions))
    return versions


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


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the repository that holds a folder, and whether files there differ from it; None outside of git."""
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        commit = _git("rev-parse", "HEAD", folder=folder)
        changed = _git("status", "--porcelain", "--untracked-files=no", folder=folder)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit, "is_dirty": bool(changed)}


def _git(*arguments: str, folder: Path) -> str:
    done = subprocess.run(  # noqa: S603 - fixed words
        ["git", "-C", str(folder), *arguments],  # noqa: S607 - git is found on the PATH
        capture_output=True, text=True, timeout=10, check=True,
    )  # fmt: skip
    return done.stdout.strip()
