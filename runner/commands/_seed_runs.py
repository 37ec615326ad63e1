"""The runs of a sweep, one a cell: here one after another, or several at a time in processes of their own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NamedTuple

from kpod.runner.archive import Archive
from kpod.runner.assembly import find_recipe
from kpod.runner.budget import Budget
from kpod.runner.console import RunConsole, say
from kpod.runner.errors import BudgetReached, ExitCode, Interrupted, KpodError, RecipeError
from kpod.runner.matrix import Cell
from kpod.runner.recipe import Recipe
from kpod.runner.session import RunOptions, Session

_POLL_S = 0.1


class CellEnd(NamedTuple):
    """How one cell ended.

    Args:
        archive: its run; None where it failed.
        error: why it failed, or "".
    """

    cell: Cell
    archive: Archive | None
    error: str
    seconds: float


def run_here(
    name: str, options: RunOptions, cells: Sequence[Cell], *, is_quiet: bool = False
) -> Iterator[CellEnd]:
    """One cell after another, in this process; a cell that fails does not stop the others.

    Raises:
        Interrupted: the run was asked to stop.
        BudgetReached: all cells together may spend no more.
        RecipeError: the recipe is wrong, though it was not when it was checked.
    """
    budget = Budget(options.budget_usd)
    for cell in cells:
        started_s = time.perf_counter()
        archive, error = None, ""
        try:
            session = Session(find_recipe(name), _of_cell(options, cell))
            session.budget = budget
            if cell.combination.label and not is_quiet:
                say(cell.name)
            try:
                archive = session.run([] if is_quiet else [RunConsole(session.recipe)])
            finally:
                session.store.close()
        except (Interrupted, BudgetReached, RecipeError):
            raise
        except KpodError as failed:
            error = str(failed)
        yield CellEnd(cell, archive, error, time.perf_counter() - started_s)


class _Lines(io.StringIO):
    """Where a run that is not alone tells its lines: each begins with the cell's name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def write(self, text: str) -> int:
        """Say every line of the text."""
        for line in text.splitlines():
            say(f"[{self._name}] {line}")
        return len(text)


@dataclass(slots=True, kw_only=True)
class _Process:
    """A cell under way; its events go to one file, its complaints to another.

    Args:
        console: shows its events; None: nothing does.
        made: names of the units that are there.
        last: its last event `run_finished`.
    """

    cell: Cell
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    complained: IO[bytes]
    started_s: float
    console: RunConsole | None
    made: set[str] = field(default_factory=set)
    last: dict[str, Any] = field(default_factory=dict)
    _read_b: int = 0

    def follow(self) -> None:
        """Take note of what it has said since. Read at a place of our own: the process shares the file's position."""
        size = os.fstat(self.said.fileno()).st_size
        new = os.pread(self.said.fileno(), size - self._read_b, self._read_b)
        whole = new[: new.rfind(b"\n") + 1]  # a line may be half written
        self._read_b += len(whole)
        for line in whole.splitlines():
            row: dict[str, Any] = json.loads(line)
            if row["event"] == "stage_finished":
                self.made.add(row["id"])
            elif row["event"] == "run_finished":
                self.last = row
            if self.console is not None:
                self.console(row)

    def end(self) -> CellEnd:
        """What became of it, once the process has ended."""
        self.follow()
        self.complained.seek(0)
        complaint = self.complained.read().decode("utf-8", errors="replace").strip()
        seconds = time.perf_counter() - self.started_s
        self.said.close()
        self.complained.close()
        if self.process.returncode == ExitCode.INTERRUPTED:
            raise Interrupted(f"{self.cell.name} was stopped; the same command continues it")
        if self.process.returncode != ExitCode.DONE or not self.last:
            error = complaint or f"its process ended with {self.process.returncode}"
            return CellEnd(self.cell, None, error, seconds)
        return CellEnd(self.cell, Archive(Path(self.last["run"])), "", seconds)


def run_in_processes(
    name: str,
    options: RunOptions,
    cells: Sequence[Cell],
    *,
    jobs: int,
    shared: frozenset[str] = frozenset(),
    recipe: Recipe | None = None,
) -> Iterator[CellEnd]:
    """Several cells at a time, as they end.

    Args:
        name: of the recipe, as the person gave it.
        options: of the command; the cells' settings come on top.
        cells: at least one.
        jobs: cells at a time, >= 1.
        shared: units that all cells need first: the first cell makes them before the others start. What else cells share
            is made by one of them while the others wait for it.
        recipe: shapes the lines of the runs; None: they are not shown.

    Raises:
        Interrupted: Ctrl-C; every cell under way is asked to stop and waited for, and can be continued.
    """
    waiting, running = deque(cells), list[_Process]()
    leader: _Process | None = None
    try:
        with _stopped_by_sigterm():
            while waiting or running:
                while waiting and len(running) < (1 if _is_ahead(leader, shared) else jobs):
                    running.append(_start(name, options, waiting.popleft(), recipe))
                    leader = leader or running[0]
                for each in _ended(running):
                    running.remove(each)
                    yield each.end()
    except KeyboardInterrupt:
        raise Interrupted("the sweep was stopped; the same command continues it") from None
    finally:
        for each in running:
            each.process.send_signal(signal.SIGINT)
        for each in running:
            each.process.wait()


def _ended(running: Sequence[_Process]) -> list[_Process]:
    """Those that have ended, after a moment's wait where none has; the lines of all of them are shown."""
    ended = [each for each in running if each.process.poll() is not None]
    for each in running:
        each.follow()
    if not ended:
        time.sleep(_POLL_S)
    return ended


def _is_ahead(leader: _Process | None, shared: frozenset[str]) -> bool:
    """Whether the first cell still makes what all others wait for."""
    return leader is not None and leader.process.returncode is None and not shared <= leader.made


@contextmanager
def _stopped_by_sigterm() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C: the cells under way have sessions of their own and would outlive us."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _start(name: str, options: RunOptions, cell: Cell, recipe: Recipe | None) -> _Process:
    """Start `kpod run` for one cell; in a session of its own, so that Ctrl-C reaches it once, through us."""
    words = [sys.executable, "-m", "kpod.runner", "run", name, "--json", "--runs", str(options.runs)]  # fmt: skip
    if options.store is not None:
        words += ["--store", str(options.store)]
    for setting in _of_cell(options, cell).settings:
        words += ["--set", setting]
    if options.retry_refused:
        words += ["--retry", "refused"]
    words += [f"--{flag}" for flag in ("offline", "refresh") if getattr(options, flag)]
    said, complained = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    process = subprocess.Popen(words, stdout=said, stderr=complained, start_new_session=True)  # noqa: S603 - ourselves
    return _Process(
        cell=cell, process=process, said=said, complained=complained, started_s=time.perf_counter(),
        console=None if recipe is None else RunConsole(recipe, stream=_Lines(cell.name)),
    )  # fmt: skip


def _of_cell(options: RunOptions, cell: Cell) -> RunOptions:
    return replace(options, settings=[*options.settings, *cell.settings])
