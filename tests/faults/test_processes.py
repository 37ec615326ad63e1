"""Several processes train what one trains; a rank that dies, a wish to stop and a killed parent cost nothing but time."""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from kpod.runner import Interrupted
from kpod.runner.archive import Archive
from kpod.stages._lm import processes
from kpod.stages.student._loop import train
from kpod.stages.student._processes import assign, enough_groups, team_of
from kpod.stages.student._tally import Tally
from tests.chain import PLUGIN, Chain, finish, output_bytes, recipe
from tests.stages.fakes import FakeContext, FakePlacement
from tests.stages.test_loop_training import EXAMPLES, fresh, training, weights

CREW = Path(__file__).parents[1] / "crew"
Trained = tuple[list[float], dict[str, torch.Tensor]]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(size: int, work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What a function gives on every rank of a process group; the ranks are forks of this process."""
    port = str(free_port())
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
                (folder / f"{rank}.pickle").write_bytes(pickle.dumps(work(rank)))
                processes.leave()
                code = 0
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    assert codes == [0] * size
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(size)]


def trained(
    root: Path, *, stop_at: int | None = None, micro_batch_tokens: int, method: str
) -> Trained:
    """The loss of every step that was told, and the weights at the end, as this process sees them."""
    student = fresh(dropout=0.0 if method == "lora" else None)
    ctx = FakeContext(config=None, root=root, stop_at=stop_at)
    team = team_of(FakePlacement(device="cpu"))
    told: list[float] = []

    class Told:
        def after(self, done: Any, tally: Tally) -> dict[str, float]:
            told.append(done.loss)
            return {}

    try:
        train(ctx, student, EXAMPLES, training(micro_batch_tokens=micro_batch_tokens), team=team, monitor=Told())  # type: ignore[arg-type]  # fmt: skip
    except Interrupted:
        told.append(-1.0)
    return told, weights(student)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "micro_batch_tokens"), [("lora", 4096), ("full", 40)])
def test_one_two_and_four_processes_train_the_same_though_steps_are_ragged(
    tmp_path: Path, method: str, micro_batch_tokens: int
) -> None:
    """Nine steps of 5, 5 and 2 examples: with four processes, two of them have nothing to do in each third step."""

    def work(rank: int) -> Trained:
        return trained(tmp_path / f"{size}", micro_batch_tokens=micro_batch_tokens, method=method)

    size = 1
    losses, expected = trained(
        tmp_path / "alone", micro_batch_tokens=micro_batch_tokens, method=method
    )
    for size in (2, 4):
        found = together(size, work, tmp_path)

        assert [len(told) for told, _ in found] == [len(losses)] * size
        assert found[0][0] == pytest.approx(losses, abs=1e-4)
        for name, value in expected.items():
            assert torch.allclose(value, found[0][1][name], atol=1e-4)
            assert all(torch.equal(found[0][1][name], own[name]) for _, own in found[1:])


def test_all_ranks_stop_after_the_same_step_and_go_on_from_one_checkpoint(tmp_path: Path) -> None:
    whole, expected = trained(tmp_path / "alone", micro_batch_tokens=40, method="lora")
    stop_at: int | None = 4

    def work(rank: int) -> Trained:
        own = stop_at if rank == 0 else None  # one rank alone hears the wish
        return trained(tmp_path / "two", stop_at=own, micro_batch_tokens=40, method="lora")

    stopped = together(2, work, tmp_path)
    stop_at = None
    resumed = together(2, work, tmp_path)

    assert stopped[0][0][-1] == stopped[1][0][-1] == -1.0
    assert len(stopped[0][0]) == len(stopped[1][0]) < len(whole)
    assert stopped[0][0][:-1] + resumed[0][0] == pytest.approx(whole, abs=1e-4)
    assert all(torch.allclose(expected[name], resumed[0][1][name], atol=1e-4) for name in expected)


groups_of_sequences = st.lists(
    st.lists(st.tuples(st.just(0) | st.integers(1, 9), st.integers(1, 99)), min_size=1, max_size=9),
    min_size=1,
    max_size=6,
)


@given(grouped=groups_of_sequences, num=st.integers(1, 8))
def test_cut_groups_hold_every_sequence_once_in_order_and_leave_nobody_idle(
    grouped: list[list[tuple[int, int]]], num: int
) -> None:
    sides = [one for group in grouped for one in group]
    numbers = iter(range(len(sides)))
    groups = [[next(numbers) for _ in group] for group in grouped]

    cut = enough_groups(groups, sides, num=num)

    assert [index for group in cut for index in group] == list(range(len(sides)))
    assert all(cut)
    assert len(cut) == max(len(groups), min(num, len(sides)))
    assert cut == groups or len(groups) < num


@given(costs=st.lists(st.integers(1, 1000), min_size=1, max_size=30), num=st.integers(1, 8))
def test_the_load_of_every_rank_is_within_the_bound_of_longest_first(
    costs: list[int], num: int
) -> None:
    owners = assign(costs, num_ranks=num)

    loads = [
        sum(c for c, owner in zip(costs, owners, strict=True) if owner == rank)
        for rank in range(num)
    ]
    assert sum(loads) == sum(costs)
    assert len(costs) < num or min(loads) > 0
    assert max(loads) <= sum(costs) / num + max(costs)


# What follows starts launchers: seconds of imports each.


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
    began = time.monotonic()
    while line not in crew.lines():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() - began < 300, crew.lines()
        threading.Event().wait(0.05)


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
        ["torch.distributed.run", "--nproc_per_node", "2", "--master_port", str(free_port())],
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", str(free_port())],
    )  # fmt: skip
    said = []
    for launcher in launchers:
        process = subprocess.run(
            [sys.executable, "-m", *launcher, "-m", "kpod.runner", "run", "recipe.yaml"],
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
    """The shipped base, a ragged epoch of 50 sequences: losses, weights and the key are those of one process."""
    chain.environment["OMP_NUM_THREADS"] = "1"
    plain = recipe(
        questions={"uses": "data.word_problems", "with": {"num_train": 50, "num_validation": 5, "num_test": 5, "seed": 7}},
        base={"uses": "model.pretrained", "with": {"package": "kpod.stages.model", "file": "quickstart_base"}},
        rationales={"uses": "teacher.reference"},
        student={"uses": "student.causal_lm", "with": {"method": "full", "epochs": 2, "batch_size": 16, "precision": "fp32", "learning_rate": 0.001, "checkpoint_every_s": 0}},
    )  # fmt: skip
    chain.write({**plain, "placement": {"stages": {"student": {"processes": 2, "device": "cpu"}}}})
    two = chain.kpod("run", "recipe.yaml")
    assert two.returncode == 0, two.stderr
    entry = next(chain.store.glob("entries/*/*/student"))
    several = load_file(entry / "model.safetensors")
    told = json.loads((entry.parent / "manifest.json").read_text())["notes"]

    one = chain.run({**plain, "placement": {"default": {"device": "cpu", "threads": 1}}}, force=["student"])  # fmt: skip

    assert entry == next(chain.store.glob("entries/*/*/student"))
    unit = one.archive.units["student"].manifest
    assert told["losses"] == pytest.approx(unit.notes["losses"], abs=1e-4)
    assert told["target_tokens"] == unit.notes["target_tokens"]
    alone = load_file(entry / "model.safetensors")
    assert alone.keys() == several.keys()
    assert all(torch.allclose(alone[name], several[name], atol=1e-4) for name in alone)
