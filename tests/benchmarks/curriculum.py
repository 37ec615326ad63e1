"""What planning a curriculum costs: 100,000 rationales over 50 stages, by curriculum.progressive and its random control.

    python tests/benchmarks/curriculum.py [--questions 100000] [--stages 50]

Goal (issue 3): under 30 s and 1 GB, records in and out included.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from kpod.runner import Assignment, Difficulty, Rationale
from kpod.stages.curriculum._settings import Config
from kpod.stages.curriculum.progressive import Progressive
from kpod.stages.curriculum.random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.stages.fakes import FakeContext

GOAL_S = 30
GOAL_B = 1_000_000_000
STAGES = {"progressive": Progressive, "random": Random}
STEP = "A step of 28 characters long."


def main() -> int:
    """Measure each in a process of its own, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--stages", type=int, default=50)
    parser.add_argument("--only", choices=tuple(STAGES), help="measure one, in this process")
    options = parser.parse_args()
    if options.only:
        return _measure(options.only, options.questions, options.stages)
    sizes = ["--questions", str(options.questions), "--stages", str(options.stages)]
    codes = [
        subprocess.run([sys.executable, __file__, "--only", name, *sizes]).returncode
        for name in STAGES
    ]
    return max(codes)


def _measure(name: str, num_questions: int, num_stages: int) -> int:
    """Seconds of CPU and the highest resident memory of this process, inputs and outputs in memory."""
    ctx = FakeContext(
        config=Config(epochs=2 * num_stages, stages=num_stages), inputs=_inputs(num_questions)
    )
    start_s = time.process_time()
    STAGES[name]().run(ctx)
    seconds = time.process_time() - start_s
    peak_b = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"  curriculum.{name}: {num_questions:,} rationales, {num_stages} stages:"
        f" {seconds:.1f} CPU s, {peak_b / 1e6:,.0f} MB at most"
        f" (goal {GOAL_S} s, {GOAL_B / 1e6:,.0f} MB)"
    )
    return 0 if seconds < GOAL_S and peak_b < GOAL_B else 1


def _inputs(num_questions: int) -> dict[str, list[Rationale | Difficulty | Assignment]]:
    """Rationales of 2 to 8 steps of 0.2 to 3 nats, in 5 clusters."""
    stream = random.Random(0)
    rows: dict[str, list[Rationale | Difficulty | Assignment]] = {
        "rationales": [], "difficulty": [], "clusters": [],
    }  # fmt: skip
    for number in range(num_questions):
        question = f"q{number}"
        num_steps = stream.randint(2, 8)
        rationale = Rationale.make(question, STEP * num_steps, teacher="none")
        steps = [
            (len(STEP) * step, len(STEP) * (step + 1), stream.uniform(0.2, 3.0))
            for step in range(num_steps)
        ]
        rows["rationales"].append(rationale)
        rows["difficulty"].append(Difficulty(rationale_id=rationale.id, steps=tuple(steps)))
        rows["clusters"].append(Assignment(question_id=question, cluster=stream.randrange(5)))
    return rows


if __name__ == "__main__":
    sys.exit(main())
