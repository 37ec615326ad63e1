"""Every measurement can be started: what it imports is there under the names it knows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LOAD = "import runpy, sys; [runpy.run_path(path, run_name='measurement') for path in sys.argv[1:]]"


def test_every_measurement_loads() -> None:
    paths = sorted(map(str, (ROOT / "tests/benchmarks").glob("*.py")))
    assert len(paths) > 10

    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *paths], cwd=ROOT, capture_output=True, text=True
    )

    assert (done.returncode, done.stderr) == (0, "")


def test_make_bench_starts_every_measurement() -> None:
    started = (ROOT / "tests/benchmarks/run.py").read_text(encoding="utf-8")
    parts = {"run.py", "training_models.py", "training_nf4.py", "training_peers.py"}

    names = {path.name for path in (ROOT / "tests/benchmarks").glob("*.py")} - parts
    assert {name for name in names if f'("{name}"' not in started} == set()
