"""A process that runs teacher.openai over a store that outlives it: what a test starts, kills and starts again.

python asking.py ROOT '{"numbers": 2000, "config": {"urls": […], "model": "teacher"}}'
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def start(root: Path, *, numbers: int, **config: Any) -> subprocess.Popen[str]:
    """Start it, on a folder with the store; it prints what it came to."""
    words = json.dumps({"numbers": numbers, "config": config})
    return subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(root), words],
        stdout=subprocess.PIPE, text=True, cwd=ROOT,
    )  # fmt: skip


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a finished one printed: rationales, notes."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, f"it ended with {process.returncode}"
    found: dict[str, Any] = json.loads(said)
    return found


def question_texts(numbers: int) -> list[str]:
    """Different questions, each with its numbers."""
    return [f"Tom has {n} apples and buys {n % 7 + 1} more." for n in range(numbers)]


def _main() -> None:
    sys.path.insert(0, str(ROOT))
    from kpod.runner import Question
    from kpod.stages.teacher.openai import Config, OpenAi
    from tests.stages.fakes import FakeContext

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = json.loads(sys.argv[2])
    settings = {name: tuple(v) if isinstance(v, list) else v for name, v in asked["config"].items()}
    questions = [
        Question.make(text, kind="numeric", answer=None, split="train", source="test")
        for text in question_texts(asked["numbers"])
    ]
    ctx = FakeContext(
        config=Config(**settings), inputs={"questions": questions}, root=Path(sys.argv[1])
    )
    OpenAi().run(ctx)
    sys.stdout.write(json.dumps({"rationales": len(ctx.rows("rationales")), "notes": ctx.notes}))


if __name__ == "__main__":
    _main()
