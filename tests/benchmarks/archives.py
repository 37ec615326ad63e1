"""What it costs to look into runs: a folder of 50, among them runs with 10,000 predictions, and a store of 10,000 results.

    python tests/benchmarks/archives.py [--questions 5000] [--runs 50] [--entries 10000] [--rounds 5] [--json FILE]

Two recipes of five seeds each: 7,473 training problems with worked steps, token weights and steps, two stand-ins for
students and what each of the two said to 5,000 test questions (the plug-in beside this file); beside these ten runs
small ones. Every command is a process of its own: medians of wall and CPU seconds, and the highest peak of its memory (VmHWM,
Linux). The recipes differ in a setting of the weights and of a student, so that `diff` has all of it to compare. The store
of `cache gc` holds entries that no run has, each with the lock file that a run leaves; all are removed.
Goals (issue 5/5): `runs`, `show` and `diff` under 1 s and 300 MB, without torch; `report` under 5 s; `cache gc` under 2 s,
looking and removing; a sweep over 20 values of one student's setting executes what its cells share once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

HERE = Path(__file__).resolve().parent
NUM_SEEDS = 5
_COMMAND = """
import json, sys, time
from kpod.runner.cli import main
code = main(sys.argv[1:])
status = open("/proc/self/status").read()
peak_mb = int(status.partition("VmHWM:")[2].split()[0]) / 1000
heavy = [name for name in ("torch", "transformers", "datasets", "sklearn") if name in sys.modules]
print(json.dumps({"code": code, "peak_mb": peak_mb, "heavy": heavy, "cpu_s": time.process_time()}), file=sys.stderr)
"""


def recipe(*, seed: int, share: float, num_questions: int) -> dict[str, Any]:
    """Two arms; `share` is of the second, and goes with other weights."""
    return {
        "kpod": 1, "name": "big", "seed": seed,
        "stages": {
            "questions": {
                "uses": "data.word_problems",
                "with": {"num_train": 7473, "num_validation": 0, "num_test": num_questions, "forms": ["two_step", "three_step"]},
            },
            "rationales": {"uses": "teacher.reference"},
            "weights": {"uses": "weighting.rules", "with": {"other": share / 4}},
            "difficulty": {"uses": "difficulty.step_count"},
            "standard": {"uses": "bench.pupil", "with": {"share": 0.5}},
            "kpod": {"like": "standard", "in": {"weights": "weights"}, "with": {"share": share}},
            "scores": {"uses": "bench.exam", "in": {"models": ["standard", "kpod"]}},
        },
        "compare": {"primary": ["standard", "kpod"]},
    }  # fmt: skip


def small(number: int) -> dict[str, Any]:
    """A run as one tries them out."""
    return {
        "kpod": 1, "name": f"small{number % 7}", "seed": number,
        "stages": {
            "questions": {"uses": "data.word_problems", "with": {"num_train": 20, "num_validation": 0, "num_test": 20}},
            "rationales": {"uses": "teacher.reference"},
            "pupil": {"uses": "bench.pupil"},
            "scores": {"uses": "bench.exam", "in": {"models": ["pupil"]}},
        },
    }  # fmt: skip


def install() -> None:
    """Let this process, and those that it starts, find the plug-ins."""
    places = [str(HERE / "plugin"), str(HERE.parent / "plugin")]
    sys.path[:0] = places
    given = os.environ.get("PYTHONPATH", "")
    os.environ["PYTHONPATH"] = os.pathsep.join([*places, given]).rstrip(os.pathsep)


def make_runs(folder: Path, *, num_questions: int, num_runs: int) -> tuple[str, str, str]:
    """The names of the two big runs that are compared, and the id of a test question."""
    from kpod.runner.document import dump
    from kpod.runner.session import RunOptions, Session

    def run(plain: dict[str, Any]) -> Any:
        (folder / "recipe.yaml").write_text(dump(plain), encoding="utf-8")
        return Session(folder / "recipe.yaml", RunOptions(runs=folder / "runs")).run()

    big = {
        (share, seed): run(recipe(seed=seed, share=share, num_questions=num_questions))
        for seed in range(NUM_SEEDS)
        for share in (0.51, 0.53)
    }
    for number in range(num_runs - len(big)):
        run(small(number))
    first = big[0.51, 0]
    row = next(first.rows(first.units["questions"], "test"))
    return first.name, big[0.53, 0].name, str(row["id"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A command's cost."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    heavy: tuple[str, ...]


def read(words: Sequence[str], folder: Path) -> Reading:
    """One command in a process of its own."""
    started_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _COMMAND, *words], cwd=folder, capture_output=True, text=True
    )
    wall_s = time.perf_counter() - started_s
    if done.returncode or not done.stderr.strip():
        sys.exit(f"kpod {' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
    facts = json.loads(done.stderr.strip().splitlines()[-1])
    if facts["code"]:
        sys.exit(f"kpod {' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
    return Reading(wall_s=wall_s, cpu_s=facts["cpu_s"], peak_mb=facts["peak_mb"], heavy=tuple(facts["heavy"]))  # fmt: skip


def fill(store: Path, *, num_entries: int) -> None:
    """A store of results that nobody has used for long."""
    from kpod.runner.canonical import digest_of
    from kpod.runner.disk import Disk
    from kpod.runner.manifest import Manifest, stored_output
    from kpod.runner.store import Store

    class Hasty(Disk):
        """Waits for nothing."""

        def sync(self, path: Path) -> None:
            """Do not."""

        def sync_folders(self, top: Path) -> None:
            """Do not."""

    made = Store(store, disk=Hasty())
    (store / "locks").mkdir(parents=True)
    for number in range(num_entries):
        key = digest_of(number)
        with made.drafting(key) as draft:
            (draft / "rows.jsonl").write_text(f'{{"number": {number}}}\n', encoding="utf-8")
            output = stored_output(draft, "rows", is_folder=False, num_records=1, pointer=None)
            image = {"uses": "bench.rows", "config": {"number": number}, "inputs": {}}
            made_by = f"20260101T000000Z-recipe{number % 9}-abcdef"
            made.publish(
                draft, Manifest(key=key, preimage=image, outputs={"rows": output}, made_by=made_by)
            )
        made.lock_path(key).touch()
        os.utime(made.entry_folder(key) / "manifest.json", (1.0, 1.0))
    made.close()


def collect(folder: Path, *, num_entries: int, rounds: int) -> dict[str, list[Reading]]:
    """Looking for garbage, and removing it; every round in a store of its own."""
    fill(folder / "store", num_entries=num_entries)
    found: dict[str, list[Reading]] = {"cache gc": [], "cache gc --yes": []}
    for number in range(rounds):
        store = folder / f"store{number}"
        shutil.copytree(folder / "store", store, copy_function=os.link)
        words = ["cache", "gc", "--store", str(store)]
        found["cache gc"].append(read(words, folder))
        found["cache gc --yes"].append(read([*words, "--yes"], folder))
        left = sum(1 for _ in (store / "entries").glob("*/*")) + sum(1 for _ in (store / "tmp").iterdir())  # fmt: skip
        if left:
            sys.exit(f"{left} entries were left")
    return found


def count_sweep(folder: Path) -> dict[str, int]:
    """Executions of a sweep over 20 values of one student's setting, by stage."""
    from kpod.runner.cli import main
    from tests.chain import Chain
    from tests.chain import recipe as chain_recipe

    folder.mkdir()
    chain = Chain(folder=folder, journal=folder / "journal.txt")
    os.environ["KPOD_CHAIN_JOURNAL"] = str(chain.journal)
    plain = chain_recipe(
        "sweep",
        questions={"uses": "tutor.questions"},
        short={"uses": "tutor.pupil", "with": {"epochs": 2}},
        long={"like": "short"},
        scores={"uses": "tutor.exam", "in": {"models": ["short", "long"]}},
    )
    words = ["sweep", str(chain.write(plain)), "--matrix", "stages.long.with.epochs=21..40", "--json"]  # fmt: skip
    with (folder / "said.txt").open("w") as said:
        kept, sys.stdout = sys.stdout, said
        try:
            code = main([*words, "--runs", str(chain.runs)])
        finally:
            sys.stdout = kept
    if code:
        sys.exit(f"the sweep failed with {code}")
    executed = chain.executions()
    return {name: executed.count(name) for name in ("questions", "pupil", "exam")}


# Wall seconds and MB that a command may take.
_GOALS = {"runs": (1, 300), "show": (1, 300), "diff": (1, 300), "report": (5, None), "cache": (2, None)}  # fmt: skip


def told(words: str, readings: Sequence[Reading]) -> tuple[str, bool]:
    """A line of figures, and whether the goals are met."""
    wall_s, cpu_s = (statistics.median(getattr(one, name) for one in readings) for name in ("wall_s", "cpu_s"))  # fmt: skip
    peak_mb = max(one.peak_mb for one in readings)
    heavy = sorted({name for one in readings for name in one.heavy})
    most_s, most_mb = _GOALS[words.split()[0]]
    is_met = wall_s < most_s and (most_mb is None or peak_mb < most_mb) and not heavy
    goal = f"{most_s} s" + ("" if most_mb is None else f", {most_mb} MB")
    line = f"  {words:<24} {wall_s:6.2f} s wall  {cpu_s:6.2f} s CPU  {peak_mb:5.0f} MB  (goal {goal}{': missed' if not is_met else ''})"  # fmt: skip
    return line + (f"  imports {', '.join(heavy)}" if heavy else ""), is_met


def main() -> int:
    """Make runs and a store, measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--questions", type=int, default=5_000)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kpod-bench-") as name:
        folder = Path(name)
        install()
        a, b, question = make_runs(folder, num_questions=options.questions, num_runs=options.runs)
        commands = {
            "runs": ["runs"], "show RUN": ["show", a], "show RUN q_ID": ["show", a, f"q_{question}"],
            "diff A B": ["diff", a, b], "diff A:kpod B:kpod": ["diff", f"{a}:kpod", f"{b}:kpod"], "report RUN": ["report", a],
        }  # fmt: skip
        readings = {name: [read(words, folder) for _ in range(options.rounds)] for name, words in commands.items()}  # fmt: skip
        readings |= collect(folder, num_entries=options.entries, rounds=options.rounds)
        swept = count_sweep(folder / "swept")
    lines = {name: told(name, found) for name, found in readings.items()}
    print(
        f"{options.runs} runs, {2 * NUM_SEEDS} of them with {2 * options.questions:,} predictions of two arms; a store of"
        f" {options.entries:,} entries; medians of {options.rounds}, the highest peak"
    )
    print("\n".join(line for line, _ in lines.values()))
    is_shared = swept == {"questions": 1, "pupil": 21, "exam": 21}
    print(f"  a sweep of 20 values executes {swept}{'' if is_shared else ': shared stages more than once'}")  # fmt: skip
    if options.json is not None:
        facts = {name: [[one.wall_s, one.cpu_s, one.peak_mb] for one in found] for name, found in readings.items()}  # fmt: skip
        options.json.write_text(json.dumps({**facts, "swept": swept}) + "\n", encoding="utf-8")
    return 0 if is_shared and all(is_met for _, is_met in lines.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
