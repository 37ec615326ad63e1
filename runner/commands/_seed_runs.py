"""The runs of a sweep: one for each seed, here one after another, or several at a time in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NamedTuple

from kpod.runner.archive import Archive
from kpod.runner.assembly import find_recipe
from kpod.runner.budget import Budget
from kpod.runner.console import RunConsole
from kpod.runner.errors import BudgetReached, ExitCode, Interrupted, KpodError, RecipeError
from kpod.runner.session import RunOptions, Session

_POLL_S = 0.1


class SeedEnd(NamedTuple):
    """How one seed ended.

    Args:
        archive: its run; None where it failed.
        error: why it failed, or "".
    """

    seed: int
    archive: Archive | None
    error: str
    seconds: float


def run_here(name: str, options: RunOptions, seeds: Sequence[int]) -> Iterator[SeedEnd]:
    """One seed after another, in this process; a seed that fails does not stop the others.

    Raises:
        Interrupted: the run was asked to stop.
        BudgetReached: all seeds together may spend no more.
        RecipeError: the recipe is wrong, for this seed and thus for all.
    """
    budget = Budget(options.budget_usd)
    for seed in seeds:
        started_s = time.perf_counter()
        archive, error = None, ""
        try:
            session = Session(find_recipe(name), _with_seed(options, seed))
            session.budget = budget
            try:
                archive = session.run([RunConsole(session.recipe)])
            finally:
                session.store.close()
        except (Interrupted, BudgetReached, RecipeError):
            raise
        except KpodError as failed:
            error = str(failed)
        yield SeedEnd(seed, archive, error, time.perf_counter() - started_s)


@dataclass(slots=True, kw_only=True)
class _Process:
    """A seed under way; its events go to one file, its complaints to another."""

    seed: int
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    complained: IO[bytes]
    started_s: float

    def end(self) -> SeedEnd:
        """What became of it, once the process has ended."""
        self.said.seek(0)
        self.complained.seek(0)
        complaint = self.complained.read().decode("utf-8", errors="replace").strip()
        seconds = time.perf_counter() - self.started_s
        if self.process.returncode == ExitCode.INTERRUPTED:
            raise Interrupted(f"seed {self.seed} was stopped; the same command continues it")
        last: dict[str, str] = {}
        for line in self.said:
            if b'"run_finished"' in line:
                last = json.loads(line)
        if self.process.returncode != ExitCode.DONE or not last:
            error = complaint or f"its process ended with {self.process.returncode}"
            return SeedEnd(self.seed, None, error, seconds)
        return SeedEnd(self.seed, Archive(Path(last["run"])), "", seconds)


def run_in_processes(
    name: str, options: RunOptions, seeds: Sequence[int], *, jobs: int
) -> Iterator[SeedEnd]:
    """Several seeds at a time, as they end; what they share is made by one of them while the others wait for it.

    Raises:
        Interrupted: Ctrl-C; every seed under way is asked to stop and waited for, and can be continued.
    """
    waiting, running = deque(seeds), list[_Process]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_start(name, options, waiting.popleft()))
            ended = [each for each in running if each.process.poll() is not None]
            for each in ended:
                running.remove(each)
                yield each.end()
            if not ended:
                time.sleep(_POLL_S)
    except KeyboardInterrupt:
        raise Interrupted("the sweep was stopped; the same command continues it") from None
    finally:
        for each in running:
            each.process.send_signal(signal.SIGINT)
        for each in running:
            each.process.wait()


def _start(name: str, options: RunOptions, seed: int) -> _Process:
    """Start `kpod run` for one seed; in a session of its own, so that Ctrl-C reaches it once, through us."""
    words = [sys.executable, "-m", "kpod.runner", "run", name, "--json", "--runs", str(options.runs)]  # fmt: skip
    if options.store is not None:
        words += ["--store", str(options.store)]
    for setting in _with_seed(options, seed).settings:
        words += ["--set", setting]
    if options.retry_refused:
        words += ["--retry", "refused"]
    words += [f"--{flag}" for flag in ("offline", "refresh") if getattr(options, flag)]
    said, complained = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(words, stdout=said, stderr=complained, start_new_session=True)  # noqa: S603 - ourselves
    return _Process(
        seed=seed, process=process, said=said, complained=complained, started_s=time.perf_counter()
    )


def _with_seed(options: RunOptions, seed: int) -> RunOptions:
    return replace(options, settings=[*options.settings, f"seed={seed}"])
