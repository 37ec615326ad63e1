"""Runs the shipped recipes with everything made small, in this process or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kpod.runner.archive import Archive
from kpod.runner.session import RunOptions, Session

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT / ".." / "shared" / "data"
BASE = ROOT / "stages" / "model" / "quickstart_base"

# The quickstart with 64 training problems, 24 test problems and 6 optimizer steps of 16.
SHORT = (
    "stages.questions.with.num_train=64", "stages.questions.with.num_test=24", "stages.questions.with.num_validation=8",
    "stages.standard.with.max_steps=6", "stages.standard.with.batch_size=16", "stages.scores.with.max_new_tokens=24",
)  # fmt: skip


def run(name: str | Path, runs: Path, settings: Sequence[str] = ()) -> Archive:
    """The archive of a recipe's run."""
    path = name if isinstance(name, Path) else ROOT / "recipes" / f"{name}.yaml"
    return Session(path, RunOptions(runs=runs, settings=settings, offline=True)).run()


def executed(archive: Archive) -> list[str]:
    """The units that were not taken from the store."""
    return [unit.name for unit in archive.units.values() if unit.status == "run"]


def command(runs: Path, settings: Sequence[str] = (), *, name: str = "quickstart") -> list[str]:
    """`kpod run` as a process would be started."""
    words = [word for setting in settings for word in ("--set", setting)]
    return [
        sys.executable,
        "-m",
        "kpod.runner",
        "run",
        str(ROOT / "recipes" / f"{name}.yaml"),
        "--runs",
        str(runs),
        *words,
    ]


def start(words: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    """A process in a folder that is not the project's."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*words],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(process: subprocess.Popen[str], unit: str, *, steps: int) -> None:
    """Read events until a unit has told of that many steps."""
    assert process.stdout is not None
    for line in process.stdout:
        row = json.loads(line)
        if row["event"] == "progress" and row["id"] == unit and row["done"] >= steps:
            return
    pytest.fail(
        f"{unit} ended before it was at {steps}: {process.stderr.read() if process.stderr else ''}"
    )


def real_data(*names: str) -> Path:
    """The folder of real data beside the checkout; the test is skipped where it is not."""
    for name in names:
        if not (SHARED / name).exists():
            pytest.skip(f"real data is not here: shared/data/{name}")
    return SHARED.resolve()
