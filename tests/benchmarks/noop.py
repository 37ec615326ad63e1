"""What a run costs that has nothing to do: kpod beside DVC, Snakemake and pytask, on the same 7-stage pipeline in the same run.

CPU seconds of the process and its children, medians of interleaved rounds. The peers' pipelines copy a text file from stage
to stage with `python`, kpod's are the chain plug-in's stages; all are run once before, so that nothing is left to do.

    python tests/benchmarks/noop.py --peers DIR_WITH_THEIR_COMMANDS --rounds 7
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUM_STAGES = 7


def main() -> None:
    """Set the pipelines up, run each once, then time the rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--peers",
        type=Path,
        default=ROOT / ".venv-bench" / "bin",
        help="folder of dvc, snakemake and pytask",
    )
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = _set_up(Path(folder), arguments.peers)
        for name, (command, place) in commands.items():
            _cpu_seconds(name, command, place)
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(arguments.rounds):
            for name, (command, place) in commands.items():
                seconds[name].append(_cpu_seconds(name, command, place))
    print(
        f"CPU seconds with nothing to do, {arguments.rounds} interleaved rounds: median [lowest, highest]"
    )
    for name, values in seconds.items():
        print(
            f"  {name:<28} {statistics.median(values):6.3f} [{min(values):.3f}, {max(values):.3f}]"
        )


def _cpu_seconds(name: str, command: list[str], place: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    search = os.pathsep.join(
        [str(ROOT / "tests" / "plugin"), os.environ.get("PYTHONPATH", "")]
    ).rstrip(os.pathsep)
    done = subprocess.run(
        command,
        cwd=place,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": search, "DVC_NO_ANALYTICS": "1"},
    )
    if done.returncode not in {0, 10}:  # 10: plan has work
        sys.exit(f"{name} failed:\n{done.stdout}\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _set_up(folder: Path, peers: Path) -> dict[str, tuple[list[str], Path]]:
    kpod = str(Path(sys.executable).with_name("kpod"))
    commands = {
        "python -c pass": ([sys.executable, "-c", "pass"], folder),
        "kpod --version": ([kpod, "--version"], folder),
        "kpod run, 7 stages": (
            [kpod, "run", "chain.yaml"],
            _kpod_chain(folder / "kpod7", NUM_STAGES),
        ),
        "kpod plan, 7 stages": ([kpod, "plan", "chain.yaml"], folder / "kpod7"),
        "kpod run, 200 stages": ([kpod, "run", "chain.yaml"], _kpod_chain(folder / "kpod200", 200)),
    }
    makers = {
        "dvc": (_dvc, ["repro"]),
        "snakemake": (_snakemake, ["-c1", "-q", "all"]),
        "pytask": (_pytask, ["build", "--verbose", "0"]),
    }
    for name, (make, words) in makers.items():
        program = peers / name if (peers / name).exists() else Path(shutil.which(name) or "")
        if not program.is_file():
            print(f"not run: {name} is not installed (make bench installs it)")
            continue
        place = folder / name
        place.mkdir()
        make(place, program)
        commands[f"{name}, 7 stages"] = ([str(program), *words], place)
    return commands


def _kpod_chain(place: Path, num_stages: int) -> Path:
    place.mkdir()
    lines = ["kpod: 1", "name: chain", "stages:", "  s1: {uses: chain.numbers}"]
    lines += [
        f"  s{n}: {{uses: chain.step, in: {{questions: s{n - 1}}}, with: {{add: {n}}}}}"
        for n in range(2, num_stages + 1)
    ]
    (place / "chain.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return place


_COPY = "import pathlib, sys; pathlib.Path(sys.argv[2]).write_text(pathlib.Path(sys.argv[1]).read_text() + 'x')"


def _start(place: Path) -> None:
    (place / "f0.txt").write_text("0\n", encoding="utf-8")
    (place / "step.py").write_text(_COPY + "\n", encoding="utf-8")


def _dvc(place: Path, program: Path) -> None:
    _start(place)
    subprocess.run(["git", "init", "-q"], cwd=place, check=True)
    subprocess.run(
        [str(program), "init", "-q"],
        cwd=place,
        check=True,
        env={**os.environ, "DVC_NO_ANALYTICS": "1"},
    )
    stages = [
        f"  s{n}:\n    cmd: {sys.executable} step.py f{n - 1}.txt f{n}.txt\n    deps: [step.py, f{n - 1}.txt]\n    outs: [f{n}.txt]"
        for n in range(1, NUM_STAGES + 1)
    ]
    (place / "dvc.yaml").write_text("stages:\n" + "\n".join(stages) + "\n", encoding="utf-8")


def _snakemake(place: Path, program: Path) -> None:
    _start(place)
    rules = [f"rule all:\n    input: 'f{NUM_STAGES}.txt'\n"]
    rules += [
        f"rule s{n}:\n    input: 'f{n - 1}.txt'\n    output: 'f{n}.txt'\n    shell: '{sys.executable} step.py {{input}} {{output}}'\n"
        for n in range(1, NUM_STAGES + 1)
    ]
    (place / "Snakefile").write_text("\n".join(rules), encoding="utf-8")


def _pytask(place: Path, program: Path) -> None:
    _start(place)
    tasks = ["from pathlib import Path", ""]
    tasks += [
        f"def task_s{n}(path=Path('f{n - 1}.txt'), produces=Path('f{n}.txt')):\n    produces.write_text(path.read_text() + 'x')\n"
        for n in range(1, NUM_STAGES + 1)
    ]
    (place / "task_chain.py").write_text("\n".join(tasks), encoding="utf-8")


if __name__ == "__main__":
    main()
