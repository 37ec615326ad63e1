"""`make bench`: every measurement of this folder, one after another, with the machine and the date.

python tests/benchmarks/run.py [--peers DIR] [--rounds 7] [--pairs 5]
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> None:
    """Run each in a process of its own, on one thread."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-bench")
    parser.add_argument("--rounds", default="7")
    parser.add_argument("--pairs", default="5")
    arguments = parser.parse_args()
    peers = arguments.peers.resolve()  # measurements run in folders of their own
    print(
        f"{datetime.now(UTC):%Y-%m-%d}  {platform.platform()}  {os.cpu_count()} CPUs  load {os.getloadavg()[0]:.1f}"
    )
    search = os.pathsep.join(filter(None, [str(peers / "trl"), os.environ.get("PYTHONPATH", "")]))
    environment = {
        # pip compiles what it installs; an editable kpod compiles itself when it is first imported, unless it may not
        **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": search,
    }
    missed = []
    for name, words in (
        ("noop.py", ["--peers", str(peers / "bin"), "--rounds", arguments.rounds]),
        ("training.py", ["--pairs", arguments.pairs]),
        ("inputs.py", []),
        ("method_loss.py", []),
        ("curriculum.py", []),
        ("difficulty.py", ["--pairs", arguments.pairs]),
        ("mask_learning.py", []),
        ("generation.py", []),
        ("evaluation.py", ["--pairs", arguments.pairs]),
        ("endpoint.py", ["--pairs", arguments.pairs]),
        ("streaming.py", []),
        ("memory.py", []),
        ("archives.py", []),
        ("gpu.py", []),
    ):
        print(f"\n{name}", flush=True)
        done = subprocess.run([sys.executable, str(HERE / name), *words], env=environment)
        missed += [name] if done.returncode else []
    if missed:
        sys.exit(f"\na goal is not met, or a measurement failed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
