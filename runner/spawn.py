"""Several processes for one stage: started with accelerate's launcher, watched, stopped when asked, judged at their end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpod.runner.errors import BudgetReached, Interrupted, StageError
from kpod.runner.launch_plan import LaunchPlan
from kpod.runner.liveness import Process
from kpod.runner.manifest import StoredOutput
from kpod.runner.remote import Result, task_of
from kpod.runner.running import Running
from kpod.runner.worker import EVENTS, STOP, log_path, result_path

_LOOK_EVERY_S = 0.1
_LOG_LINES = 12
# What a launcher tells the processes that it starts: ours must not hear what another launcher told us.
_LAUNCHED = re.compile(
    r"^(RANK|LOCAL_RANK|WORLD_SIZE|LOCAL_WORLD_SIZE|GROUP_\w+|ROLE_\w+|MASTER_\w+|TORCHELASTIC_\w+)$"
)
# A process that ended badly, in what torch's launcher prints about all of them; it names the one it noticed first last.
_FAILURE = re.compile(
    r"^\s*rank\s*: (?P<rank>\d+)[^\n]*\n\s*exitcode\s*: (?P<code>-?\d+)", re.MULTILINE
)


def spawn(ctx: Running, plan: LaunchPlan) -> dict[str, StoredOutput]:
    """Run a stage in processes of its own; notes and references are put into the context.

    Raises:
        Interrupted: the run was asked to stop, and all processes did.
        StageError: the stage failed, a process died, or none could be started; the checkpoint is kept.
    """
    folder = ctx.checkpoint / "processes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    path = folder / "task.json"
    work = task_of(ctx, folder, parent=Process.this())
    path.write_text(work.to_json(), encoding="utf-8")
    with _launched(plan, path, folder / "launcher.log") as launcher:
        relay = _Relay(folder / EVENTS, ctx)
        is_over = False
        while not is_over:
            try:
                launcher.wait(_LOOK_EVERY_S)
                is_over = True
            except subprocess.TimeoutExpired:
                pass
            if ctx.stop.is_set:
                (folder / STOP).touch()
            relay.pass_on()
    result = judged(
        folder, plan.num_processes, is_stopped=ctx.stop.is_set, code=launcher.returncode
    )
    ctx.notes.update(result.notes)
    ctx.refers.extend(result.refers)
    return result.outputs


@contextmanager
def _launched(plan: LaunchPlan, task: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The launcher, in a session of its own, so that the terminal's Ctrl-C reaches only us; ended with the block."""
    environment = {name: value for name, value in os.environ.items() if not _LAUNCHED.match(name)}
    if plan.device == "cpu":
        environment["CUDA_VISIBLE_DEVICES"] = ""
    with log.open("wb") as file:
        launcher = subprocess.Popen(  # noqa: S603 - our own interpreter
            [sys.executable, "-m", *plan.words, "-m", "kpod.runner.worker", str(task)],
            stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        yield launcher
    finally:
        if (
            launcher.poll() is None
        ):  # a second Ctrl-C, or our own mistake; the workers notice that it is gone
            os.killpg(launcher.pid, signal.SIGKILL)
            launcher.wait()


class _Relay:
    """Hands the events of the first process on to the run."""

    def __init__(self, path: Path, ctx: Running) -> None:
        self._path = path
        self._ctx = ctx
        self._read_b = 0

    def pass_on(self) -> None:
        """What is new, by whole lines."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_b)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_b += len(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            del row["at"]
            self._ctx.events.emit(row.pop("event"), **row)


def judged(folder: Path, num_processes: int, *, is_stopped: bool, code: int) -> Result:
    """The result of rank 0, if all is well.

    Raises:
        KpodError: what went wrong, by the rank where it began.
    """
    results = {
        rank: Result.from_json(result_path(folder, rank).read_text(encoding="utf-8"))
        for rank in range(num_processes)
        if result_path(folder, rank).exists()
    }
    for result in results.values():
        _raise_told(result)
    first = results.get(0)
    if code == 0 and first is not None and first.status == "done":
        return first
    if is_stopped:
        raise Interrupted("stopped; what was done since the last checkpoint is done again")
    raise _death(folder, results)


def _raise_told(result: Result) -> None:
    if result.status == "stopped":
        raise Interrupted(result.said)
    if result.status == "unpaid":
        raise BudgetReached(result.said)
    if result.status == "failed":
        raise StageError(result.said)


def _death(folder: Path, results: dict[int, Result]) -> StageError:
    """Which process died of what, with the end of its log."""
    launcher = folder / "launcher.log"
    text = launcher.read_text(encoding="utf-8", errors="replace")
    codes = {int(one["rank"]): int(one["code"]) for one in _FAILURE.finditer(text)}
    if not codes:
        started = sorted(folder.glob("rank-*.log"))
        which = "failed" if started else "could not start the processes"
        return StageError(f"accelerate's launcher {which}{_tail(launcher)}")
    rank = _began_with(codes, results)
    code = codes.get(rank, 0)
    if rank in results:
        how = f"failed: {results[rank].said}"
    elif code < 0:
        how = f"was ended by signal {-code} ({_signal_name(-code)})"
    else:
        how = f"ended with exit code {code}"
    return StageError(
        f"rank {rank} {how}; the checkpoint is kept, and the same command continues from it"
        f"{_tail(log_path(folder, rank))}"
    )


def _began_with(codes: dict[int, int], results: dict[int, Result]) -> int:
    """The rank whose end brought the others down.

    What the launcher notices first says little: it looks ten times a second, and the others fail within milliseconds for want
    of the first. So: one that a signal ended without a word; else the first of those that raised; else the launcher's own answer.
    SIGTERM is the launcher's way to end the rest, and SIGABRT that of a library whose peer is gone, where another raised.

    Args:
        codes: exit codes by rank, the launcher's first observed failure last.
        results: what the processes left behind, by rank.
    """
    crashed = {rank: result.at_s for rank, result in results.items() if result.status == "crashed"}
    expected = {-signal.SIGTERM} | ({-signal.SIGABRT} if crashed else set())
    killed = [
        rank
        for rank, code in codes.items()
        if rank not in results and code < 0 and code not in expected
    ]
    if killed:
        return killed[-1]
    return min(crashed, key=crashed.__getitem__) if crashed else list(codes)[-1]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _tail(log: Path) -> str:
    """The last lines of a log, under its name."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()][-_LOG_LINES:]
    if not lines:
        return f"\nits log is empty: {log}"
    return "\n".join([f"\nthe end of its log, {log}:", *(f"  {line}" for line in lines)])
