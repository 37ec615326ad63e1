"""The process is killed, or the disk is full, at every call that changes the disk: a hit or a miss, never half."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from kpod.runner.cli import main
from kpod.runner.store import Store
from tests.chain import Chain, output_bytes, recipe, seven, step
from tests.faults.disks import METHODS, Act, Calls, be_full, die, die_half_way, in_a_child, watch
from tests.waiting import wait_until

TWO = recipe(
    s1={"uses": "chain.numbers", "with": {"count": 4}},
    s2=step("s1", "s2"),
    page={"uses": "chain.page"},
)


def calls_of_a_run(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls that an undisturbed run makes, in order."""
    calls = Calls()
    with monkeypatch.context() as patch:
        watch(patch, calls)
        chain.run(TWO, runs=chain.folder / "counted")
    return calls.made


def check_store(store: Path) -> None:
    """Every key is a hit whose bytes are those of its manifest, or a miss."""
    opened = Store(store)
    for key in list(opened.keys()):
        entry = opened.get(key)
        assert entry is not None, f"{key} is half there"
        assert opened.verify(entry) == []
    assert opened.quarantined() == []
    opened.close()


EVERY = pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])


@EVERY
@pytest.mark.parametrize("act", [die, die_half_way])
def test_a_kill_at_any_call_leaves_a_hit_or_a_miss_and_the_next_run_completes(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, act: Act, every: int
) -> None:
    made = calls_of_a_run(chain, monkeypatch)
    assert set(METHODS) == set(made)
    expected = output_bytes(chain.run(TWO, runs=chain.folder / "undisturbed").archive)
    points = [
        number
        for number, method in enumerate(made)
        if act is die or method in {"write_text", "replace_text"}
    ]

    for number in points[every // 2 :: every]:
        runs = chain.folder / f"{number}"

        def killed_run(runs: Path = runs, number: int = number) -> None:
            with pytest.MonkeyPatch.context() as patch:
                watch(patch, Calls(at=number, act=act))
                chain.run(runs=runs)

        assert in_a_child(killed_run) == signal.SIGKILL, f"the kill at call {number} did not bite"
        check_store(runs / ".store")
        finished = [path for path in runs.iterdir() if (path / "run.json").exists()]
        before = len(list((runs / ".store" / "entries").glob("*/*/manifest.json")))
        again = chain.run(runs=runs)

        assert expected == output_bytes(again.archive), f"after a kill at call {number}"
        assert 2 - before == len([name for name in again.executed if name != "page"])
        check_store(runs / ".store")
        assert len(finished) <= 1


@EVERY
def test_a_full_disk_at_any_call_is_told_in_words_and_the_next_run_goes_on(
    chain: Chain,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    every: int,
) -> None:
    made = calls_of_a_run(chain, monkeypatch)
    expected = output_bytes(chain.run(TWO, runs=chain.folder / "undisturbed").archive)
    path = str(chain.folder / chain.name)

    for number in range(every // 2, len(made), every):
        runs = str(chain.folder / f"{number}")
        capsys.readouterr()
        with monkeypatch.context() as patch:
            watch(patch, Calls(at=number, act=be_full, is_forever=True))
            code = main(["run", path, "--runs", runs])
        complaint = capsys.readouterr().err

        assert code == 3, f"call {number}, {made[number]}: {complaint}"
        assert "no space left on device\nfree some space; the same command continues" in complaint
        assert "Traceback" not in complaint
        check_store(Path(runs) / ".store")
        assert main(["run", path, "--runs", runs]) == 0
        assert expected == output_bytes(chain.run(runs=Path(runs)).archive)


@pytest.mark.slow
def test_a_real_kill_at_a_random_moment_loses_nothing(chain: Chain, tmp_path: Path) -> None:
    expected = output_bytes(chain.run(seven(), runs=tmp_path / "undisturbed").archive)
    chain.write(seven(**{f"s{number}": {"pause_s": 0.1} for number in range(2, 7)}))
    chance = random.Random(0)
    for number in range(3):
        runs = tmp_path / f"{number}"
        for _ in range(3):
            # Three kills come within 15 of the 32 lines that a run adds, however fast the machine is; 1.5 s are left.
            num_lines = len(chain.lines()) + chance.randint(0, 5)
            process = chain.start("run", "recipe.yaml", "--runs", str(runs))
            wait_until(process, lambda wanted=num_lines: len(chain.lines()) >= wanted)  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.05))
            process.kill()
            process.communicate()
            assert process.returncode == -signal.SIGKILL
            check_store(runs / ".store")
        done = chain.kpod("run", "recipe.yaml", "--runs", str(runs))
        assert (done.returncode, done.stderr) == (0, "")
        again = chain.run(runs=runs)
        assert again.executed == []
        assert expected == output_bytes(again.archive)
