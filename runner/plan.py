"""What would run, and why: units in order, each a hit, a run, or a run that depends on what comes before it.

`Planner.assess` is the one judgement; planning asks it without running, executing asks it unit by unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kpod.runner.capability import Capability
from kpod.runner.environment import package_versions
from kpod.runner.errors import MissingExtra, Position, Problem, SettingError
from kpod.runner.keys import changes, preimage, seed_of, stage_key
from kpod.runner.outside import Found, HubSilent, Outside, SourceMissing
from kpod.runner.preimages import read_preimage, read_recent
from kpod.runner.recipe import Recipe, RecipeStage
from kpod.runner.record import Model
from kpod.runner.store import Entry, Store
from kpod.runner.wiring import Wire, Wires

Status = Literal["hit", "run", "run?"]


@dataclass(frozen=True, slots=True)
class Unit:
    """What is keyed and executed as one: a stage, or a stage for one element of its `each` input."""

    stage: RecipeStage
    wires: Wires
    element: Wire | None = None

    @property
    def name(self) -> str:
        """The stage's id, with the element's in brackets."""
        return self.stage.id if self.element is None else f"{self.stage.id}[{self.element.stage}]"


@dataclass(frozen=True, slots=True)
class Content:
    """An output whose bytes are in the store: by which entry, under which name."""

    entry: Entry
    output: str
    unit: str

    @property
    def digest(self) -> str:
        """Of its bytes."""
        return self.entry.manifest.outputs[self.output].digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What the planner says of a unit.

    Args:
        status: hit, run, or `run?` where the contents of its inputs are not known yet.
        reason: why it runs, in words; "" for a hit.
        key, image: the name of the result and what it is made from; None while unknown.
        config: the settings with `auto` resolved.
        contents: of its inputs; None while unknown.
        sources: what it reads from outside, by setting.
        entry: the stored result of a hit.
        is_again: it is executed even where its result is stored.
    """

    unit: Unit
    status: Status
    reason: str = ""
    key: str | None = None
    image: dict[str, Any] | None = None
    config: Any = None
    contents: dict[str, tuple[Content, ...]] | None = None
    sources: Mapping[str, Found] | None = None
    entry: Entry | None = None
    is_again: bool = False


class Planner:
    """Judges the units of one recipe against one store.

    Attributes:
        known: the contents of outputs, as far as they are known.
        question_wires: outputs that are read as questions, by role; the recipe stands still, so contamination.py asks once.
    """

    def __init__(
        self,
        recipe: Recipe,
        store: Store,
        *,
        outside: Outside,
        capability: Capability,
        retry_refused: bool = False,
    ) -> None:
        self.recipe = recipe
        self.store = store
        self.outside = outside
        self.capability = capability
        self.retry_refused = retry_refused
        self.units = [unit for stage in recipe.stages.values() for unit in units_of(stage)]
        self.known: dict[Wire, dict[str, Content]] = {}
        self.question_wires: dict[str, list[Wire]] = {}
        self._learned: set[str] = set()
        self._packages = package_versions(store.memo)
        self._recent = read_recent(store, recipe.name)

    def plan(self, *, forced: frozenset[str] = frozenset()) -> list[Assessment]:
        """Every unit, as far as hits make contents known.

        Raises:
            SourceMissing: sources, or libraries of units that are to run; all of them are named.
        """
        planned: list[Assessment] = []
        missing: list[str] = []
        for unit in self.units:
            try:
                assessment = self.assess(unit, is_forced=unit.stage.id in forced)
            except SourceMissing as error:
                missing.append(str(error))
                continue
            planned.append(assessment)
            if assessment.status == "hit":
                self.learn(assessment)
                continue
            try:
                unit.stage.stage.check_installed(unit.stage.config)
            except MissingExtra as error:
                missing.append(self._told(unit, "", str(error)))
        if missing:
            raise SourceMissing("\n".join([*missing, "nothing was run"]))
        return planned

    def refuse_silence(self, planned: list[Assessment]) -> None:
        """Raise a HubSilent for units that cannot start, whatever the others give."""
        silent = [
            self._told(found.unit, "", found.reason)
            for found in planned
            if found.status == "run?" and found.sources is None
        ]
        if silent:
            raise HubSilent("\n".join([*silent, "nothing was run"]))

    def assess(self, unit: Unit, *, is_forced: bool = False) -> Assessment:
        """What is to be done about a unit, given what is known."""
        contents = self._contents(unit)
        try:
            sources = self._sources(unit)
        except HubSilent as error:
            return Assessment(unit=unit, status="run?", reason=str(error).replace("\n", "; "))
        if contents is None:
            waits = sorted(
                {
                    wire.stage
                    for wires in unit.wires.values()
                    for wire in wires
                    if wire not in self.known
                }
            )
            return Assessment(
                unit=unit, status="run?", reason=f"depends on {', '.join(waits)}", sources=sources
            )
        config = self._resolve(unit, contents)
        image = preimage(
            unit.stage.stage, config,
            inputs={name: [content.digest for content in items] for name, items in contents.items()},
            sources={name: found.fact for name, found in sources.items()},
            recipe_seed=self.recipe.seed, packages=self._packages,
        )  # fmt: skip
        key = stage_key(image)
        entry = None if is_forced else self.store.get(key)
        num_refused = self._refused(entry)
        if num_refused:
            entry, reason = None, f"{num_refused:,} refused texts are asked for again"
        else:
            reason = "" if entry else "forced" if is_forced else self._reason(unit, key, image)
        return Assessment(
            unit=unit, status="hit" if entry else "run", reason=reason, key=key, image=image,
            config=config, contents=contents, sources=sources, entry=entry, is_again=is_forced or num_refused > 0,
        )  # fmt: skip

    def _refused(self, entry: Entry | None) -> int:
        """How many refused texts a stored result holds that are asked for again; 0 where this command made it."""
        if entry is None or not self.retry_refused or entry.manifest.key in self._learned:
            return 0
        noted = entry.manifest.notes.get("refused")
        return noted if isinstance(noted, int) else 0

    def seed(self, unit: Unit, config: Any) -> int | None:
        """The seed that a unit runs under."""
        return seed_of(unit.stage.stage, config, recipe_seed=self.recipe.seed)

    def learn(self, assessment: Assessment) -> None:
        """Take note of the contents that a unit's outputs have."""
        assert assessment.entry is not None
        self._learned.add(assessment.entry.manifest.key)
        self.store.touch(assessment.entry.manifest.key)
        unit = assessment.unit
        for output in unit.stage.stage.outputs():
            content = Content(assessment.entry, output, unit.name)
            self.known.setdefault(Wire(unit.stage.id, output), {})[unit.name] = content

    def unit_named(self, name: str) -> Unit:
        """The unit of that name."""
        return next(unit for unit in self.units if unit.name == name)

    def _contents(self, unit: Unit) -> dict[str, tuple[Content, ...]] | None:
        contents: dict[str, tuple[Content, ...]] = {}
        for name, wires in unit.wires.items():
            if any(not self.is_known(wire) for wire in wires):
                return None
            contents[name] = tuple(
                content for wire in wires for content in self.known[wire].values()
            )
        return contents

    def is_known(self, wire: Wire) -> bool:
        """Whether every unit of the stage behind a wire is known."""
        return len(self.known.get(wire, ())) == len(units_of(self.recipe.stages[wire.stage]))

    def _sources(self, unit: Unit) -> dict[str, Found]:
        """What a unit reads from outside, found; raises SourceMissing with all that is not there."""
        found: dict[str, Found] = {}
        missing: list[str] = []
        try:
            sources = unit.stage.stage.sources(unit.stage.config)
        except SettingError as error:
            raise SourceMissing(self._told(unit, error.field, error.message)) from None
        for name, source in sources.items():
            try:
                found[name] = self.outside.find(source)
            except SourceMissing as error:
                missing.append(self._told(unit, name, str(error)))
        if missing:
            raise SourceMissing("\n".join(missing))
        return found

    def _told(self, unit: Unit, setting: str, message: str) -> str:
        """A problem with a setting, or with a whole stage, at its place in the recipe."""
        path = f"stages.{unit.stage.id}.with.{setting}" if setting else f"stages.{unit.stage.id}"
        origins = self.recipe.origins
        where = origins.get(path) or origins.get(f"stages.{unit.stage.id}.uses")
        return str(
            Problem(
                message=message.replace("\n", "\n  "),
                path=path,
                where=Position(where) if where else None,
            )
        )

    def _resolve(self, unit: Unit, contents: Mapping[str, tuple[Content, ...]]) -> Any:
        inputs = unit.stage.stage.inputs()
        models = {
            name: items[0].entry.path(items[0].output)
            for name, items in contents.items()
            if inputs[name].record is Model and items
        }
        return unit.stage.stage.resolve(unit.stage.config, self.capability, models)

    def _reason(self, unit: Unit, key: str, image: Mapping[str, Any]) -> str:
        if self.store.partial(key).exists():
            return "was interrupted; continues"
        before = self._recent.get(unit.name)
        if before is None:
            return "no earlier result"
        if before == key:
            return "its result is no longer in the store"
        old = read_preimage(self.store, before)
        return "; ".join(changes(old, image)) if old else "no earlier result"


def units_of(stage: RecipeStage) -> list[Unit]:
    """The units that a stage splits into: one for every element of its `each` input, else one."""
    each = [name for name, wanted in stage.stage.inputs().items() if wanted.each]
    if not each:
        return [Unit(stage, stage.wires)]
    name = each[0]
    return [Unit(stage, {**stage.wires, name: (wire,)}, wire) for wire in stage.wires[name]]
