"""What big inputs cost: a 1 GB file that did not change, and a table of 1,000,000 questions.

    python tests/benchmarks/inputs.py [--rows 1000000]

Goals (issue 1): 0 bytes of the unchanged file read when warm; a million questions loaded, keyed and cached under 500 MB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _unchanged_file(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        _many_questions(Path(folder), arguments.rows)


def _unchanged_file(folder: Path) -> None:
    """A folder with 1 GB of weights beside a model's config: hashed once, then known by its stat."""
    from kpod.runner.memo import Memo

    big = folder / "weights.bin"
    with big.open("wb") as file:
        for _ in range(1024):
            file.write(os.urandom(1024) * 1024)
    old = time.time() - 60
    os.utime(big, (old, old))
    time.sleep(2.1)  # a file this young may change within its time stamp, so its digest is not kept
    for turn in ("cold", "warm"):
        memo = Memo(folder / "memo.sqlite")
        start_s = time.process_time()
        memo.content_digest(big)
        print(
            f"  1 GB file, {turn}: {memo.bytes_read:,} bytes read, {time.process_time() - start_s:.3f} CPU s"
        )
        memo.close()


def _many_questions(folder: Path, rows: int) -> None:
    """`kpod run` of one data.table stage in a process of its own."""
    with (folder / "q.jsonl").open("w", encoding="utf-8") as file:
        for number in range(rows):
            text = f"Question {number}: how many apples are {number} and {number % 97} apples, counted one after another by two people?"
            file.write(json.dumps({"question": text, "answer": str(number + number % 97)}) + "\n")
    (folder / "r.yaml").write_text(
        "kpod: 1\nname: big\nstages:\n  questions: {uses: data.table, with: {train: q.jsonl, kind: numeric}}\n",
        encoding="utf-8",
    )
    for turn in ("cold", "warm"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = (
            "import resource, sys; from kpod.runner.cli import main; code = main(['run', 'r.yaml']);"
            "print('peak_kb', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        peak = re.search(r"peak_kb (\d+)", done.stdout)
        assert peak is not None
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(
            f"  {rows:,} questions, {turn}: {int(peak[1]) / 1024:.0f} MB at most, {seconds:.1f} CPU s"
        )


if __name__ == "__main__":
    main()
