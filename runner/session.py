"""One run from a recipe's path to its archive: the objects that `kpod run`, `rerun`, `resume` and `sweep` share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kpod.runner import environment
from kpod.runner.archive import Archive, ArchiveWriter
from kpod.runner.capability import Capability, read_capability
from kpod.runner.config import config_to_json
from kpod.runner.disk import disk_problem
from kpod.runner.errors import Interrupted, KpodError
from kpod.runner.events import Events, Listener, utc_now
from kpod.runner.execute import Execution, Outcome
from kpod.runner.inspection import InspectedExample
from kpod.runner.interrupt import StopRequest
from kpod.runner.outside import Outside
from kpod.runner.plan import Planner, downstream_of, needed_for
from kpod.runner.recipe import Recipe, load_recipe
from kpod.runner.source import HubRepository, PackageFile
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
        self.planner = Planner(self.recipe, self.store, outside=outside, capability=self.capability)

    def _forced(self) -> frozenset[str]:
        from kpod.runner.plan import check_ids

        check_ids(self.recipe, list(self.options.force))
        after = (
            downstream_of(self.recipe, self.options.from_stage)
            if self.options.from_stage
            else frozenset()
        )
        return frozenset(self.options.force) | after

    def run(self, listeners: Sequence[Listener] = ()) -> Archive:
        """Execute the recipe and archive the run.

        Raises:
            KpodError: a stage failed, a source is missing, or the run was interrupted; all that was made is kept.
        """
        started_s = time.perf_counter()
        planned = self.planner.plan(forced=self.forced)
        self.planner.refuse_silence(planned)
        self._probe_store()
        writer = _new_archive(self.options.runs, self.recipe)
        events = Events(writer.folder / "events.jsonl", list(listeners))
        stop = StopRequest()
        hits = {found.unit.name: found for found in planned if found.status == "hit"}
        execution = Execution(self.planner, events, stop, writer.folder.name, self.forced, hits)
        try:
            events.emit(
                "run_started", name=self.recipe.name, seed=self.recipe.seed, run=str(writer.folder),
                stages=len(self.recipe.stages),
            )  # fmt: skip
            with stop.listening():
                execution.run()
                self._archive(writer, execution, seconds=time.perf_counter() - started_s)
                self._render(writer, events, execution)
        except Interrupted as error:
            events.emit("run_interrupted", reason=str(error))
            raise
        except (Exception, KeyboardInterrupt) as error:
            with suppress(OSError):  # the disk may be full, or whoever listened gone
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
        events, stop = Events(None, list(listeners)), StopRequest()
        self.recipe = needed_for(self.recipe, stage_id)
        self.planner = Planner(
            self.recipe, self.store, outside=self.planner.outside, capability=self.capability
        )
        execution = Execution(self.planner, events, stop, "inspect-batch")
        with stop.listening():
            yield from execution.inspect(stage_id, limit=limit, epoch=epoch)

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

    def _archive(self, writer: ArchiveWriter, execution: Execution, *, seconds: float) -> None:
        for outcome in execution.outcomes.values():
            unit = outcome.assessment.unit
            writer.add_unit(
                unit.stage.id, unit.element.stage if unit.element else None, outcome.entry
            )
        resolved = self.recipe.resolved()
        _write_agreed(resolved, execution)
        writer.write_resolved(resolved)
        writer.finish(
            {
                "name": self.recipe.name,
                "recipe": str(self.recipe.path.absolute()),
                "seed": self.recipe.seed,
                "primary": list(self.recipe.primary),
                "started_at": writer.started_at,
                "finished_at": utc_now(),
                "seconds": round(seconds, 3),
                "store": str(self.store.root),
                "rerun_of": self.options.rerun_of,
                "units": [_unit_row(outcome) for outcome in execution.outcomes.values()],
                "views": {view.id: view.uses for view in self.recipe.views.values()},
                "sources": self._archive_sources(writer, execution),
                "capability": self.capability.to_json(),
                "machine": environment.machine_facts(),
                "packages": environment.package_versions(self.store.memo),
                "git": environment.git_state(
                    self.recipe.path.absolute().parent,
                    with_status=any(
                        outcome.status == "run" for outcome in execution.outcomes.values()
                    ),
                ),
            }
        )

    def _archive_sources(self, writer: ArchiveWriter, execution: Execution) -> list[dict[str, Any]]:
        """What was read from outside: its content, and its copy in the archive."""
        rows: list[dict[str, Any]] = []
        for outcome in execution.outcomes.values():
            unit = outcome.assessment.unit
            named = unit.stage.stage.sources(unit.stage.config)
            for setting, found in (outcome.assessment.sources or {}).items():
                place = None
                if found.path is not None and not isinstance(
                    named[setting], PackageFile | HubRepository
                ):
                    digest = found.fact["sha256"]
                    place = writer.add_input(
                        digest, found.path, self.store.root / "sources" / digest[:2] / digest
                    )
                rows.append(
                    {
                        "unit": unit.name,
                        "setting": setting,
                        "original": found.original,
                        "fact": found.fact,
                        "archived": place,
                    }
                )
        return rows

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


def _unit_row(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import asdict

    assessment = outcome.assessment
    unit = assessment.unit
    return {
        "name": unit.name,
        "stage": unit.stage.id,
        "element": unit.element.stage if unit.element else None,
        "uses": unit.stage.uses,
        "status": outcome.status,
        "reason": assessment.reason,
        "seconds": round(outcome.entry.manifest.seconds, 3) if outcome.status == "run" else 0.0,
        "config": config_to_json(assessment.config),
        "wires": {name: [str(wire) for wire in wires] for name, wires in unit.wires.items()},
        "manifest": asdict(outcome.entry.manifest),
    }


def _write_agreed(resolved: dict[str, Any], execution: Execution) -> None:
    """Write the values that `auto` settings were resolved to, where all units of a stage agree on them."""
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for outcome in execution.outcomes.values():
        by_stage.setdefault(outcome.assessment.unit.stage.id, []).append(
            config_to_json(outcome.assessment.config)
        )
    for stage_id, configs in by_stage.items():
        if all(config == configs[0] for config in configs):
            resolved["stages"][stage_id]["with"] = configs[0]
