"""Launched processes: one that dies, a wish to stop and a killed parent cost nothing but time. Each start takes seconds of imports."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpod.runner.archive import Archive
from tests.chain import PLUGIN, Chain, finish, output_bytes, recipe
from tests.faults.many_and_one import trained_by_many_and_one
from tests.ranks import free_port
from tests.waiting import wait_until

CREW = Path(__file__).parents[1] / "crew"


@pytest.fixture
def crew(chain: Chain) -> Iterator[Chain]:
    chain.environment["PYTHONPATH"] = f"{CREW}{os.pathsep}{PLUGIN}"
    chain.environment["OMP_NUM_THREADS"] = "1"
    yield chain
    for line in chain.lines():  # a test that failed leaves nothing behind
        if line.startswith("pid:") and is_alive(int(line.split(":")[2])):
            os.kill(int(line.split(":")[2]), signal.SIGKILL)


def pulling(*, processes: int = 2, **settings: Any) -> dict[str, Any]:
    """A recipe with a stage that several processes run together."""
    plain = recipe(
        s1={"uses": "chain.numbers", "with": {"count": 5}},
        pull={"uses": "crew.pull", "in": {"questions": "s1"}, "with": settings},
    )
    return {**plain, "placement": {"default": {"processes": processes}}}


def run(crew: Chain, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    crew.write(pulling(**settings))
    return crew.kpod("run", "recipe.yaml", *words)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def until(crew: Chain, line: str, process: subprocess.Popen[str]) -> None:
    """Until the journal has a line."""
    wait_until(process, lambda: line in crew.lines(), look_every_s=0.05)


def pids(crew: Chain) -> list[int]:
    return [int(line.split(":")[2]) for line in crew.lines() if line.startswith("pid:")]


def results(crew: Chain) -> dict[str, bytes]:
    """What the last whole run left."""
    archives = sorted(path for path in crew.runs.iterdir() if (path / "run.json").exists())
    return output_bytes(Archive(archives[-1]))


@pytest.mark.slow
def test_a_dead_rank_ends_the_stage_with_its_log_and_the_same_command_goes_on(crew: Chain) -> None:
    died = run(crew, die_at=2)

    assert died.returncode == 3
    log = next(crew.store.glob("partial/*/processes/rank-1.log"))
    assert died.stderr.startswith(
        "stage pull (crew.pull)\n"
        "  rank 1 was ended by signal 9 (SIGKILL); the checkpoint is kept, and the same command continues from it\n"
        f"  the end of its log, {log}:\n    about to die"
    )
    assert not any(is_alive(pid) for pid in pids(crew))

    again = run(crew, die_at=2)

    assert again.returncode == 0, again.stderr
    steps = [line for line in crew.lines() if line.startswith("step:")]
    assert steps == ["step:0", "step:1", "step:2", "step:3"]
    together_bytes = results(crew)
    alone = crew.kpod("run", "recipe.yaml", "--set", "placement.default.processes=1", "--force", "pull")  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    assert together_bytes == results(crew)


@pytest.mark.slow
def test_a_wish_to_stop_reaches_all_processes_after_the_same_step(crew: Chain) -> None:
    crew.write(pulling(steps=40, pause_s=0.1))
    process = crew.start("run", "recipe.yaml")
    until(crew, "step:3", process)
    process.send_signal(signal.SIGINT)
    ended = finish(process)

    assert ended.returncode == 5, ended.stderr
    stopped = sorted(line for line in crew.lines() if line.startswith("stopped:"))
    assert [line.split(":")[1] for line in stopped] == ["0", "1"]
    assert len({line.split(":")[2] for line in stopped}) == 1
    assert "the training was stopped at" in ended.stderr
    assert not any(is_alive(pid) for pid in pids(crew))


@pytest.mark.slow
def test_workers_end_within_seconds_when_the_run_is_killed(crew: Chain) -> None:
    crew.write(pulling(steps=600, pause_s=0.1))
    process = crew.start("run", "recipe.yaml")
    until(crew, "step:3", process)
    process.kill()
    finish(process)

    began = time.monotonic()
    while any(is_alive(pid) for pid in pids(crew)):
        assert time.monotonic() - began < 10
        threading.Event().wait(0.1)
    assert len(pids(crew)) == 2


@pytest.mark.slow
def test_an_error_of_all_ranks_and_an_exception_of_one_are_told_as_what_they_are(
    crew: Chain,
) -> None:
    failed = run(crew, fail_at=1)
    crashed = run(crew, crash_at=1)

    assert failed.returncode == crashed.returncode == 3
    assert failed.stderr == "stage pull (crew.pull)\n  the rope is too short\n"
    assert "rank 1 failed: ValueError: the rope broke; the checkpoint is kept" in crashed.stderr
    assert "Traceback" in crashed.stderr


@pytest.mark.slow
def test_a_wrong_accelerate_config_is_told_with_what_accelerate_says(crew: Chain) -> None:
    config = {"distributed_type": "MULTI_CPU", "num_processes": 2, "colour": "blue"}
    (crew.folder / "accelerate.json").write_text(json.dumps(config), encoding="utf-8")
    crew.write({**pulling(), "placement": {"stages": {"pull": {"accelerate": "accelerate.json"}}}})

    wrong = crew.kpod("run", "recipe.yaml")

    assert wrong.returncode == 3
    assert "accelerate's launcher could not start the processes" in wrong.stderr
    assert "unknown keys (['colour'])" in wrong.stderr
    del config["colour"]
    (crew.folder / "accelerate.json").write_text(json.dumps(config), encoding="utf-8")
    right = crew.kpod("run", "recipe.yaml")
    assert right.returncode == 0, right.stderr
    assert "2 pulled" in right.stdout


@pytest.mark.slow
def test_torchrun_and_accelerate_launch_run_a_recipe_once_and_end_also_when_nothing_was_to_be_run(
    crew: Chain,
) -> None:
    plain = pulling()
    del plain["placement"]
    crew.write(plain)
    launchers = (
        ["torch.distributed.run", "--nproc_per_node", "2", "--master_port"],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port"],
    )  # fmt: skip
    said = []
    for launcher in launchers:
        process = subprocess.run(
            [sys.executable, "-m", *launcher, str(free_port()), "-m", "kpod.runner", "run", "recipe.yaml"],
            cwd=crew.folder, text=True, capture_output=True, timeout=300, check=False,
            env={**os.environ, "KPOD_CHAIN_JOURNAL": str(crew.journal), **crew.environment},
        )  # fmt: skip
        assert process.returncode == 0, process.stderr
        said.append(process.stdout)

    assert said[0].count("2 pulled") == said[0].count("done in") == 1
    assert "2 of 2 from the store" in said[1]
    assert crew.lines().count("numbers") == 1
    assert len(pids(crew)) == 2


@pytest.mark.slow
def test_torchrun_ends_when_the_stage_fails_on_all_ranks(crew: Chain) -> None:
    plain = pulling(fail_at=1)
    del plain["placement"]
    crew.write(plain)

    process = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port()), "-m", "kpod.runner", "run", "recipe.yaml"],
        cwd=crew.folder, text=True, capture_output=True, timeout=300, check=False,
        env={**os.environ, "KPOD_CHAIN_JOURNAL": str(crew.journal), **crew.environment},
    )  # fmt: skip

    assert process.returncode != 0
    assert process.stderr.count("the rope is too short") == 1
    assert not any(is_alive(pid) for pid in pids(crew))


@pytest.mark.slow
def test_a_student_of_two_processes_is_that_of_one(chain: Chain) -> None:
    told, notes = trained_by_many_and_one(chain, {"processes": 2, "device": "cpu"}, method="full")

    assert told["target_tokens"] == notes["target_tokens"]
