"""Which of several processes a failure began with, from what the launcher printed and what the processes left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from kpod.runner import StageError
from kpod.runner.remote import Result
from kpod.runner.spawn import judged
from kpod.runner.worker import log_path, result_path

BROKE, ALONE = "ValueError: the rope broke", "RuntimeError: Connection closed by peer"


def leave(folder: Path, rank: int, said: str, *, at_s: float) -> None:
    result = Result(status="crashed", said=said, at_s=at_s, outputs={}, notes={})
    result_path(folder, rank).write_text(result.to_json(), encoding="utf-8")


def launcher_says(folder: Path, *failures: tuple[int, int]) -> None:
    """The ranks and exit codes that torch's launcher saw; the one it saw first stands last, as the root cause."""
    others = [f"[{n}]:\n  rank      : {rank} (local_rank: {rank})\n  exitcode  : {code} (pid: 7)\n" for n, (rank, code) in enumerate(failures[:-1], 1)]  # fmt: skip
    rank, code = failures[-1]
    (folder / "launcher.log").write_text(
        f"E1130 14:58:37 2835 api.py:1002] failed (exitcode: {code}) local_rank: {rank} (pid: 8) of binary: python\n"
        "kpod.runner.worker FAILED\nFailures:\n" + "".join(others)
        + f"----\nRoot Cause (first observed failure):\n[0]:\n  rank      : {rank} (local_rank: {rank})\n  exitcode  : {code} (pid: 8)\n",
        encoding="utf-8",
    )  # fmt: skip


def death(folder: Path, num_processes: int = 2) -> str:
    with pytest.raises(StageError, match="the checkpoint is kept") as raised:
        judged(folder, num_processes, is_stopped=False, code=1)
    return str(raised.value)


@pytest.mark.parametrize("first_seen", [0, 1])
@pytest.mark.parametrize("exit_code", [3, -signal.SIGABRT])
def test_of_two_that_raised_the_first_is_told_whatever_the_launcher_saw_first(
    tmp_path: Path, first_seen: int, exit_code: int
) -> None:
    leave(tmp_path, 0, ALONE, at_s=100.002)
    leave(tmp_path, 1, BROKE, at_s=100.001)
    log_path(tmp_path, 1).write_text("Traceback\n", encoding="utf-8")
    launcher_says(tmp_path, (1 - first_seen, -signal.SIGTERM), (first_seen, exit_code))

    told = death(tmp_path)

    assert told.startswith(f"rank 1 failed: {BROKE}; ")
    assert told.endswith("Traceback")


def test_one_that_was_killed_is_told_before_those_that_raised_for_want_of_it(
    tmp_path: Path,
) -> None:
    leave(tmp_path, 0, ALONE, at_s=100.0)
    launcher_says(tmp_path, (1, -signal.SIGKILL), (0, 3))

    assert death(tmp_path).startswith("rank 1 was ended by signal 9 (SIGKILL); ")


def test_an_abort_is_told_where_nobody_raised_and_not_where_another_did(tmp_path: Path) -> None:
    launcher_says(tmp_path, (0, -signal.SIGTERM), (1, -signal.SIGABRT))
    alone = death(tmp_path)
    leave(tmp_path, 0, BROKE, at_s=100.0)

    assert alone.startswith("rank 1 was ended by signal 6 (SIGABRT); ")
    assert death(tmp_path).startswith(f"rank 0 failed: {BROKE}; ")


def test_one_that_left_nothing_is_told_by_its_exit_code(tmp_path: Path) -> None:
    launcher_says(tmp_path, (0, -signal.SIGTERM), (1, 7))

    assert death(tmp_path).startswith("rank 1 ended with exit code 7; ")
