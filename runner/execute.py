"""Runs a recipe: unit by unit, each from the store where it is there, else executed once and published."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kpod.runner.budget import Budget
from kpod.runner.canonical import pretty_json
from kpod.runner.contamination import Pair, refuse_contamination
from kpod.runner.disk import disk_problem
from kpod.runner.empty_sets import refuse_empty_tests
from kpod.runner.errors import (
    BudgetReached,
    Interrupted,
    KpodError,
    StageCrashed,
    StageError,
    StageFailed,
)
from kpod.runner.events import Events, utc_now
from kpod.runner.forecast import Forecast, Forecasting
from kpod.runner.interrupt import StopRequest
from kpod.runner.launch import check_placements, execute_stage, spent_cpu_s
from kpod.runner.manifest import Manifest
from kpod.runner.plan import Assessment, Content, Planner, Unit
from kpod.runner.preimages import read_recent, write_preimage
from kpod.runner.running import Running
from kpod.runner.stage import Stage
from kpod.runner.store import Entry, Store

_LOCK_POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a unit.

    Args:
        status: hit (from the store), shared (another run made it meanwhile) or run.
    """

    assessment: Assessment
    entry: Entry
    status: Literal["hit", "shared", "run"]


@dataclass(slots=True)
class Execution:
    """One run of a recipe's units against a store.

    Args:
        planner: judges the units; keeps what is known of their contents.
        events, stop: where to tell what happens, and whether to stop.
        run_name: of the archive.
        forced: ids of stages that are executed even where their result is stored.
        planned: hits that were found a moment ago, by unit; used once.
        budget: what all stages together may spend.
        never_asks: a stage that others answer (`determinism` external) is refused where its result is not stored.
    """

    planner: Planner
    events: Events
    stop: StopRequest
    run_name: str
    forced: frozenset[str] = frozenset()
    planned: dict[str, Assessment] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    never_asks: bool = False
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    _sound: set[str] = field(default_factory=set)
    _compared: set[Pair] = field(default_factory=set)

    @property
    def store(self) -> Store:
        """The planner's."""
        return self.planner.store

    def run(self) -> None:
        """Take every unit to its result, in order.

        Raises:
            KpodError: a stage failed; what came before it is kept.
            Interrupted: the run was asked to stop.
        """
        check_placements([unit for unit in self.planner.units if unit.name not in self.planned])
        for unit in self.planner.units:
            self._settle(unit)
        self._remember()

    def contexts(self, stage_id: str) -> Iterator[tuple[Stage[Any], Running]]:
        """Every unit of a stage with what it would be given; the units before it are taken to their results, it is not run."""
        for unit in self.planner.units:
            if unit.stage.id != stage_id:
                self._settle(unit)
                continue
            assessment = self.planner.assess(unit)
            if assessment.key is None:
                raise StageError(f"{unit.name} cannot start: {assessment.reason}")
            with self.store.drafting(assessment.key) as draft:
                yield unit.stage.stage(), self.context(assessment, draft)

    def forecasts(self, planned: Sequence[Assessment]) -> dict[str, Forecast]:
        """What units that will run would ask for, by name, where that can be told."""
        told: dict[str, Forecast] = {}
        for assessment in planned:
            unit = assessment.unit
            stage = unit.stage.stage()
            if assessment.status == "run" and isinstance(stage, Forecasting):
                draft = self.store.root / "tmp" / "plan"  # nothing is written there
                try:
                    told[unit.name] = stage.forecast(self.context(assessment, draft))
                except KpodError as error:
                    raise StageFailed(unit.name, unit.stage.uses, error) from error
        return told

    def _settle(self, unit: Unit) -> None:
        """Take one unit to its result."""
        if self.stop.is_set:
            raise Interrupted(f"stopped before {unit.name}")
        is_forced = unit.stage.id in self.forced and unit.name not in self.outcomes
        assessment = self.planned.get(unit.name) or self.planner.assess(unit, is_forced=is_forced)
        if assessment.status == "run?":
            raise StageError(f"{unit.name} cannot start: {assessment.reason}")
        status: Literal["hit", "shared", "run"] = "hit"
        if assessment.entry is None:
            self.events.emit(
                "stage_started",
                id=unit.name,
                uses=unit.stage.uses,
                key=assessment.key,
                reason=assessment.reason,
            )
            is_again = is_forced or assessment.is_again
            assessment, status = self._execute(assessment, is_forced=is_again)
        assert assessment.entry is not None
        self.planner.learn(assessment)
        self.outcomes[unit.name] = Outcome(
            assessment=assessment, entry=assessment.entry, status=status
        )
        manifest = assessment.entry.manifest
        self.events.emit(
            "stage_finished", id=unit.name, uses=unit.stage.uses, key=manifest.key, status=status,
            reason=assessment.reason, seconds=round(manifest.seconds, 3) if status == "run" else 0.0,
            outputs={name: output.digest for name, output in manifest.outputs.items()}, summary=manifest.summary,
        )  # fmt: skip
        refuse_empty_tests(self.planner)
        refuse_contamination(self.planner, self.events, self._compared)

    def _execute(
        self, assessment: Assessment, *, is_forced: bool
    ) -> tuple[Assessment, Literal["shared", "run"]]:
        """Make a result under its key's lock, unless another run has made it by then."""
        assessment = self._with_sound_inputs(assessment)
        assert assessment.key is not None
        if self.never_asks and assessment.unit.stage.stage.determinism == "external":
            raise StageError(
                f"{assessment.unit.name}: its archived answers are not those that this kpod would ask for, so they cannot be replayed\n"
                "--pay asks its endpoint again"
            )
        with self._locked(assessment):
            entry = None if is_forced else self.store.get(assessment.key)
            if entry is not None:
                return replace(assessment, entry=entry), "shared"
            assert assessment.image is not None
            write_preimage(self.store, assessment.key, assessment.image)
            return replace(assessment, entry=self._make(assessment, is_forced=is_forced)), "run"

    def _with_sound_inputs(self, assessment: Assessment) -> Assessment:
        """Re-hash what a unit is about to read; an entry that is not what it was is set aside and made again."""
        for content in self._read_by(assessment):
            key = content.entry.manifest.key
            if key in self._sound:
                continue
            differing = self.store.verify(content.entry)
            if differing:
                reason = f"{', '.join(differing)} changed after it was stored"
                self.store.quarantine(key, reason)
                self.planned.clear()
                self.events.emit("entry_corrupt", id=content.unit, key=key, reason=reason)
                self._settle(self.planner.unit_named(content.unit))
                return self._with_sound_inputs(self.planner.assess(assessment.unit))
            self._sound.add(key)
        return assessment

    def _read_by(self, assessment: Assessment) -> Iterator[Content]:
        """The contents that a unit reads, and those that they refer to (an adapter its base)."""
        by_digest = {
            content.digest: content
            for contents in self.planner.known.values()
            for content in contents.values()
        }
        waiting = [
            content for contents in (assessment.contents or {}).values() for content in contents
        ]
        while waiting:
            content = waiting.pop()
            yield content
            waiting += [
                by_digest[digest] for digest in content.entry.manifest.refers if digest in by_digest
            ]

    @contextmanager
    def _locked(self, assessment: Assessment) -> Iterator[None]:
        """Hold the key's lock; wait for whoever has it."""
        from filelock import FileLock, Timeout

        assert assessment.key is not None
        path = self.store.lock_path(assessment.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        is_waiting = False
        while True:
            try:
                lock.acquire(timeout=_LOCK_POLL_S)
                break
            except Timeout:
                if not is_waiting:
                    self.events.emit("stage_waiting", id=assessment.unit.name, key=assessment.key)
                    is_waiting = True
                if self.stop.is_set:
                    raise Interrupted(
                        f"stopped while {assessment.unit.name} waited for another run"
                    ) from None
        try:
            yield
        finally:
            lock.release()

    def _make(self, assessment: Assessment, *, is_forced: bool) -> Entry:
        """Run the stage into a draft and publish it."""
        unit, key, image = assessment.unit, assessment.key, assessment.image
        assert key is not None
        assert image is not None
        wall_s, cpu_s = time.perf_counter(), spent_cpu_s()
        with self.store.drafting(key) as draft:
            ctx = self.context(assessment, draft)
            try:
                outputs = execute_stage(ctx)
            except (Interrupted, BudgetReached):
                raise
            except KpodError as error:
                raise StageFailed(unit.name, unit.stage.uses, error) from error
            except Exception as error:
                crashed = StageCrashed(unit.name, unit.stage.uses, error)
                raise disk_problem(error) or crashed from error
            manifest = Manifest(
                key=key, preimage=image, outputs=outputs, refers=tuple(ctx.refers), notes=ctx.notes,
                seconds=time.perf_counter() - wall_s, cpu_seconds=spent_cpu_s() - cpu_s,
                made_at=utc_now(), made_by=self.run_name,
            )  # fmt: skip
            if is_forced:
                self.store.remove(key)
            return self.store.publish(draft, manifest)

    def context(self, assessment: Assessment, draft: Path) -> Running:
        """What the stage is given, writing into a draft."""
        assert assessment.key is not None
        assert assessment.image is not None
        assert assessment.contents is not None
        assert assessment.sources is not None
        return Running(
            unit=assessment.unit, config=assessment.config, seed=assessment.image["seed"] or 0, contents=assessment.contents,
            sources=assessment.sources, draft=draft, store=self.store, outside=self.planner.outside,
            events=self.events, stop=self.stop, key=assessment.key, run_name=self.run_name, budget=self.budget,
            retry_refused=self.planner.retry_refused,
        )  # fmt: skip

    def _remember(self) -> None:
        """Note which keys this recipe's units have now, so that the next plan can say what changed."""
        name = self.planner.recipe.name
        keys = {unit: outcome.entry.manifest.key for unit, outcome in self.outcomes.items()}
        before = read_recent(self.store, name)
        after = {**before, **keys}
        if after == before:
            return
        path = self.store.root / "recent" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.store.disk.replace_text(path, pretty_json(after))
