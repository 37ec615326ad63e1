"""Settings that several stages share: a curriculum's epochs are its students' epochs.

`Input(Curriculum, agree=("epochs",))` says that this setting of the stage and of the stage behind the wire is one and
the same. A stage without such a setting (a curriculum played backwards) hands the demand on through its own inputs that
agree. All that are connected form a group: one value, and whoever says null is given it. `Input(..., replaces=…)` takes
a stage out of its group: the input stands for the setting, which then is null. Source: DESIGN 3 and 7.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kpod.runner import document
from kpod.runner.config import build_config, config_to_json
from kpod.runner.errors import Position, Problem, RecipeError
from kpod.runner.shape import SettingShape, setting_shapes
from kpod.runner.stage import Stage
from kpod.runner.wiring import Wires
from kpod.runner.wording import bare

Member = tuple[str, str]
"""A stage's id and the name of a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A stage whose settings are each sound, and whose inputs are wired.

    Args:
        node: the stage in the recipe, for positions.
    """

    stage: type[Stage[Any]]
    config: Any
    wires: Wires
    node: document.Mapping


@dataclass(slots=True)
class Agreement:
    """Fills in what stages share, and says what does not fit.

    Args:
        stages: by id, in an order in which they can run.
        configs: the settings after `settle`.
        origins: where filled values came from, by dotted name.
        problems: what does not fit.
    """

    stages: Mapping[str, Configured]
    configs: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _told: set[Member] = field(default_factory=set)

    def settle(self) -> None:
        """Empty what an input replaces, fill and compare the groups, then demand what is still missing."""
        self.configs = {stage_id: each.config for stage_id, each in self.stages.items()}
        replaced = dict(self._replacements(is_wired=True))
        for member, input_name in replaced.items():
            self._refuse_both(member, input_name)
        for group in self._groups(frozenset(replaced)):
            self._settle_group(group)
        for member, input_name in self._replacements(is_wired=False):
            if member not in replaced and member not in self._told and self._value(member) is None:
                self._demand(member, input_name)

    def _replacements(self, *, is_wired: bool) -> Iterator[tuple[Member, str]]:
        """Settings that an input stands for, with the input's name."""
        for stage_id, each in self.stages.items():
            for name, wanted in each.stage.inputs().items():
                if bool(each.wires.get(name)) == is_wired:
                    for setting in wanted.replaces:
                        assert self._shape((stage_id, setting)), (
                            f"{each.stage.uses} has no {setting}"
                        )
                        yield (stage_id, setting), name

    def _groups(self, replaced: frozenset[Member]) -> list[list[Member]]:
        """Members that share one value; a member whose setting is replaced is in none."""
        groups: dict[Member, list[Member]] = {}
        for pair in self._pairs():
            linked = [member for member in pair if member not in replaced]
            whole = [member for one in linked for member in groups.get(one, [one])]
            whole = list(dict.fromkeys(whole))
            groups.update(dict.fromkeys(whole, whole))
        order = list(self.stages)
        unique = {id(group): group for group in groups.values()}.values()
        return [sorted(group, key=lambda member: order.index(member[0])) for group in unique]

    def _pairs(self) -> Iterator[tuple[Member, ...]]:
        """Members that an input connects; one alone where the input replaces, as its stage has a value of its own."""
        for stage_id, each in self.stages.items():
            for name, wanted in each.stage.inputs().items():
                for wire in each.wires.get(name, ()):
                    for setting in wanted.agree:
                        yield (stage_id, setting), (wire.stage, setting)
                    for setting in wanted.replaces:
                        yield ((wire.stage, setting),)

    def _settle_group(self, group: list[Member]) -> None:
        able = [member for member in group if self._shape(member)]
        said = [member for member in able if self._value(member) is not None]
        if not able:
            return
        if not said:
            self._told.update(able)
            self.problems.append(self._nothing_said(able))
            return
        owner = self._owner(said)
        for member in said:
            if self._value(member) != self._value(owner):
                self.problems.append(self._unequal(member, owner))
        for member in able:
            if member not in said:
                self._fill(member, owner)

    def _owner(self, said: list[Member]) -> Member:
        """Whose value counts: that which most of them say; of these, one that is written, and as early as may be."""
        votes = Counter(repr(self._value(member)) for member in said)
        return max(
            said, key=lambda member: (votes[repr(self._value(member))], self._is_written(member))
        )

    def _fill(self, member: Member, owner: Member) -> None:
        stage_id, setting = member
        where = self.origins.get(_dotted(owner)) or str(self._position(owner) or "default")
        self._set(member, self._value(owner), whose=f" (the value of {_dotted(owner)})")
        self.origins[f"stages.{stage_id}.with.{setting}"] = f"as {_dotted(owner)} ({where})"

    def _set(self, member: Member, value: Any, *, whose: str) -> None:
        """Give a setting a value that stands elsewhere, checked as if the recipe had said it here."""
        stage_id, setting = member
        each = self.stages[stage_id]
        data = {**config_to_json(self.configs[stage_id]), setting: value}
        node = document.find(each.node, ["with"]) or each.node
        try:
            self.configs[stage_id] = build_config(
                each.stage.config_class, data, node=node, path=f"stages.{stage_id}.with"
            )
        except RecipeError as error:
            self._told.add(member)
            self.problems += [
                replace(problem, message=problem.message + whose) for problem in error.problems
            ]

    def _refuse_both(self, member: Member, input_name: str) -> None:
        """What an input replaces is null; a default gives way, a value that the recipe wrote is an error."""
        stage_id, setting = member
        value = self._value(member)
        if value is None:
            return
        source = document.find(self.stages[stage_id].node, ["in", input_name])
        assert source is not None, "an optional input is wired only where the recipe names it"
        if not self._is_written(member):
            replaced = f"replaced by stages.{stage_id}.in.{input_name} ({source.position})"
            self._set(member, None, whose=f" ({replaced})")
            self.origins[_dotted(member)] = replaced
            return
        wires = ", ".join(wire.stage for wire in self.stages[stage_id].wires[input_name])
        self.problems.append(
            Problem(
                message=f"got both {input_name}: {wires} (at {source.position}) and {setting}: {bare(value)}, "
                "and one replaces the other",
                where=self._position(member), path=_dotted(member),
                hint=f"set {setting}: null, or take {input_name} out of `in`",
            )
        )  # fmt: skip

    def _demand(self, member: Member, input_name: str) -> None:
        setting = member[1]
        self.problems.append(
            Problem(
                message=f"got null, and no {input_name} is wired that would replace it",
                where=self._position(member) or self._uses(member), path=_dotted(member),
                hint=f"set {setting}, or name a source: in: {{{input_name}: …}}",
            )
        )  # fmt: skip

    def _nothing_said(self, able: list[Member]) -> Problem:
        first, *others = able
        names = ", ".join(map(_dotted, others))
        also = f", or {names}: they agree" if others else ""
        return Problem(
            message=f"no value for {first[1]}, which nothing else in this recipe says",
            where=self._position(first) or self._uses(first),
            path=_dotted(first),
            hint=f"set {_dotted(first)}{also}",
        )

    def _unequal(self, member: Member, owner: Member) -> Problem:
        """Both places, both values, and what to do."""
        can_be_left_out = [
            each for each in (owner, member) if (shape := self._shape(each)) and shape.default is None
        ]  # fmt: skip
        also = f", or leave {_dotted(can_be_left_out[0])} out" if can_be_left_out else ""
        return Problem(
            message=f"got {self._told_value(member)}, but {_dotted(owner)} is {self._told_value(owner)} "
            f"at {self._position(owner) or self._uses(owner)}, and the two are one setting",
            where=self._position(member) or self._uses(member),
            path=_dotted(member),
            hint=f"set both to one value{also}",
        )

    def _told_value(self, member: Member) -> str:
        default = "" if self._is_written(member) else " (the default)"
        return bare(self._value(member)) + default

    def _shape(self, member: Member) -> SettingShape | None:
        """What the setting is; None where the stage has no such setting."""
        config_class: type = self.stages[member[0]].stage.config_class
        return next(
            (shape for shape in setting_shapes(config_class) if shape.name == member[1]), None
        )

    def _value(self, member: Member) -> Any:
        return getattr(self.configs[member[0]], member[1])

    def _is_written(self, member: Member) -> bool:
        return self._position(member) is not None

    def _position(self, member: Member) -> Position | None:
        """Where the recipe says it; None for a default."""
        found = document.find(self.stages[member[0]].node, ["with", member[1]])
        return None if found is None else found.position

    def _uses(self, member: Member) -> Position:
        return self.stages[member[0]].node.entries["uses"].node.position


def _dotted(member: Member) -> str:
    return f"stages.{member[0]}.with.{member[1]}"
