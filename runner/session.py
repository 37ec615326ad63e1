"""One run from a recipe's path to its archive: the objects that `kpod run`, `rerun`, `resume` and `sweep` share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive
from kpod.runner.archive_writer import ArchiveWriter
from kpod.runner.archiving import archive_run
from kpod.runner.batch import Batchable, BatchRequest
from kpod.runner.budget import Budget
from kpod.runner.capability import Capability, read_capability
from kpod.runner.disk import disk_problem
from kpod.runner.errors import BudgetReached, Interrupted, KpodError
from kpod.runner.events import Events, Listener
from kpod.runner.execute import Execution
from kpod.runner.forecast import Forecast
from kpod.runner.inspection import Inspectable, InspectedExample
from kpod.runner.interrupt import StopRequest
from kpod.runner.live import at_work
from kpod.runner.outside import Outside
from kpod.runner.plan import Assessment, Planner
from kpod.runner.recipe import Recipe, load_recipe
from kpod.runner.running import Running
from kpod.runner.selection import check_ids, downstream_of, needed_for
from kpod.runner.spending import spending_of
from kpod.runner.stage import Stage
from kpod.runner.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line says beside the recipe.

    Args:
        runs: the folder of archives.
        store: the folder of results; None = runs/.store.
        settings: `a.b=value`.
        until: run only what this stage needs, and it.
        from_stage: execute this stage and all that follows from it again.
        force: execute these stages again.
        offline, refresh: never ask the hub; ask it again.
        substitutes, commits: archived copies of original paths, archived commits of hub names (a rerun).
        capability: of the machine that `auto` settings are resolved for; None = this one.
        budget_usd: the most that this command may spend; None: no limit.
        retry_refused: execute stages again whose texts were refused, and ask for those.
        never_asks: refuse to ask an endpoint for anything (a verification replays what it answered).
        rerun_of, origins: name of the run that is run again, and where its values came from.
    """

    runs: Path = Path("runs")
    store: Path | None = None
    settings: Sequence[str] = ()
    until: str | None = None
    from_stage: str | None = None
    force: Sequence[str] = ()
    offline: bool = False
    refresh: bool = False
    substitutes: Mapping[str, Path] = field(default_factory=dict)
    commits: Mapping[str, str] = field(default_factory=dict)
    capability: Capability | None = None
    budget_usd: float | None = None
    retry_refused: bool = False
    never_asks: bool = False
    rerun_of: str | None = None
    origins: Mapping[str, str] | None = None

    def open_store(self) -> Store:
        """The store that these options name."""
        return Store(self.store or self.runs / ".store")


class Session:
    """A recipe, a store and a planner, ready to plan or to run."""

    def __init__(self, path: Path, options: RunOptions) -> None:
        self.options = options
        self.store = options.open_store()
        recipe = load_recipe(path, settings=options.settings, memo=self.store.memo)
        if options.origins is not None:
            recipe = replace(recipe, origins=dict(options.origins))
        self.recipe: Recipe = needed_for(recipe, options.until) if options.until else recipe
        self.forced = self._forced()
        self.capability = options.capability or read_capability()
        outside = Outside(
            memo=self.store.memo,
            offline=options.offline,
            refresh=options.refresh,
            substitutes=options.substitutes,
            commits=options.commits,
        )
        self.budget = Budget(options.budget_usd)
        self.planner = Planner(
            self.recipe,
            self.store,
            outside=outside,
            capability=self.capability,
            retry_refused=options.retry_refused,
        )

    def _forced(self) -> frozenset[str]:
        check_ids(self.recipe, list(self.options.force))
        after = (
            downstream_of(self.recipe, self.options.from_stage)
            if self.options.from_stage
            else frozenset()
        )
        return frozenset(self.options.force) | after

    def plan(self) -> list[Assessment]:
        """Every unit in order: a hit, a run, or `run?` where that depends on what comes before it; nothing is run."""
        return self.planner.plan(forced=self.forced)

    def run(self, listeners: Sequence[Listener] = ()) -> Archive:
        """Execute the recipe and archive the run.

        Raises:
            KpodError: a stage failed, a source is missing, or the run was interrupted; all that was made is kept.
        """
        self._probe_store()
        with at_work(self.store.root):
            return self._run(listeners)

    def _run(self, listeners: Sequence[Listener]) -> Archive:
        started_s = time.perf_counter()
        planned = self.planner.plan(forced=self.forced)
        self.planner.refuse_silence(planned)
        writer = _new_archive(self.options.runs, self.recipe)
        events = Events(writer.folder / "events.jsonl", list(listeners))
        stop = StopRequest()
        hits = {found.unit.name: found for found in planned if found.status == "hit"}
        execution = Execution(
            self.planner,
            events,
            stop,
            writer.folder.name,
            self.forced,
            hits,
            self.budget,
            self.options.never_asks,
        )
        try:
            events.emit(
                "run_started", name=self.recipe.name, seed=self.recipe.seed, run=str(writer.folder),
                stages=len(self.recipe.stages),
            )  # fmt: skip
            with stop.listening():
                execution.run()
                archive_run(
                    writer, execution,
                    seconds=time.perf_counter() - started_s, rerun_of=self.options.rerun_of,
                )  # fmt: skip
                self._render(writer, events, execution)
        except (Interrupted, BudgetReached) as error:
            _tell_spending(events, execution)
            events.emit("run_interrupted", reason=str(error).partition("\n")[0])
            raise
        except (Exception, KeyboardInterrupt) as error:
            with suppress(OSError):  # the disk may be full, or whoever listened gone
                _tell_spending(events, execution)
                said = (
                    str(error)
                    if isinstance(error, KpodError)
                    else f"{type(error).__name__}: {error}"
                )
                events.emit("run_failed", reason=said)
            problem = disk_problem(error) if isinstance(error, Exception) else None
            if problem is None:
                raise
            raise problem from error
        _tell_spending(events, execution)
        num_hits = sum(outcome.status != "run" for outcome in execution.outcomes.values())
        events.emit(
            "run_finished", seconds=round(time.perf_counter() - started_s, 3), hits=num_hits,
            units=len(execution.outcomes), run=str(writer.folder),
        )  # fmt: skip
        return Archive(writer.folder)

    def inspect(
        self, stage_id: str, *, limit: int, epoch: int = 1, listeners: Sequence[Listener] = ()
    ) -> Iterator[InspectedExample]:
        """The first training sequences of an epoch (from 1) of a student; what it reads is made where it is not stored, the student is not."""
        for stage, ctx in self._contexts(stage_id, listeners, "inspect-batch"):
            assert isinstance(stage, Inspectable)
            yield from stage.inspect(ctx, limit=limit, epoch=epoch)

    def batch_requests(
        self, stage_id: str, *, listeners: Sequence[Listener] = ()
    ) -> Iterator[BatchRequest]:
        """What a stage would ask its endpoint for; what it reads is made where it is not stored, nothing is sent."""
        for stage, ctx in self._contexts(stage_id, listeners, "batch export"):
            assert isinstance(stage, Batchable)
            yield from stage.batch_requests(ctx)

    def forecasts(self, planned: Sequence[Assessment]) -> dict[str, Forecast]:
        """What units that will run would ask for, by name: those whose inputs are known and whose stage can tell.

        Raises:
            StageFailed: a stage cannot tell, for a reason that would stop it too.
        """
        execution = Execution(self.planner, Events(None), StopRequest(), "plan", budget=self.budget)
        return execution.forecasts(planned)

    def _contexts(
        self, stage_id: str, listeners: Sequence[Listener], command: str
    ) -> Iterator[tuple[Stage[Any], Running]]:
        """The units of one stage, ready and not run."""
        events, stop = Events(None, list(listeners)), StopRequest()
        self.recipe = needed_for(self.recipe, stage_id)
        self.planner = Planner(
            self.recipe, self.store, outside=self.planner.outside, capability=self.capability,
            retry_refused=self.options.retry_refused,
        )  # fmt: skip
        execution = Execution(self.planner, events, stop, command, budget=self.budget)
        with stop.listening():
            yield from execution.contexts(stage_id)

    def _probe_store(self) -> None:
        """Say at once, and in words, that the store cannot be written."""
        try:
            (self.store.root / "tmp").mkdir(parents=True, exist_ok=True)
            probe = self.store.root / "tmp" / f".probe-{time.time_ns()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise disk_problem(error) or KpodError(
                f"cannot write in the store {self.store.root}: {error.strerror}\nname another one with --store DIR or KPOD_STORE"
            ) from error

    def _render(self, writer: ArchiveWriter, events: Events, execution: Execution) -> None:
        """Render the views; where nothing ran, the page of the run that made all of it is linked."""
        from kpod.runner.pages import render_views

        is_unchanged = all(outcome.status == "hit" for outcome in execution.outcomes.values())
        for view, status, seconds in render_views(
            self.recipe, Archive(writer.folder), self.store, may_link=is_unchanged
        ):
            events.emit(
                "view_rendered", id=view.id, uses=view.uses, status=status, seconds=round(seconds, 3),
                summary=str(writer.folder / "report.html"),
            )  # fmt: skip


def _new_archive(runs: Path, recipe: Recipe) -> ArchiveWriter:
    """A new run's folder; a full or read-only disk is told in words."""
    try:
        return ArchiveWriter(runs, recipe)
    except OSError as error:
        problem = disk_problem(error)
        if problem is None:
            raise
        raise problem from error


def _tell_spending(events: Events, execution: Execution) -> None:
    """Say what the run spent and saved, where it asked an endpoint for anything."""
    import sqlite3

    try:
        spending = spending_of(execution)
    except sqlite3.Error:  # the disk is full or gone: what brought the run to its end is told, the ledger keeps the rest
        return
    if spending is not None:
        events.emit("run_spent", said=str(spending), **spending.to_json())
