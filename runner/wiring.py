"""Where the inputs of stages come from: what `in` names, and the required inputs that are in no doubt.

A candidate for an input is an output of its record type and role of another stage, less those that yet another stage
refines (a filter's output supersedes what it filtered). Exactly one wires. Source: DESIGN 3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kpod.runner.errors import Position, Problem, nearest
from kpod.runner.stage import Input, Output, Stage


@dataclass(frozen=True, slots=True, order=True)
class Wire:
    """One output of one stage."""

    stage: str
    output: str

    def __str__(self) -> str:
        return f"{self.stage}.{self.output}"


@dataclass(frozen=True, slots=True)
class Named:
    """A source as the recipe writes it (`questions` or `questions.train`), and where."""

    text: str
    position: Position


@dataclass(frozen=True, slots=True)
class Unwired:
    """A stage before its inputs are wired.

    Args:
        stage: its class.
        named: what `in` says, by input; a list where the recipe has one.
        position: of its id in the recipe.
        in_positions: of the keys of `in`.
    """

    stage: type[Stage[Any]]
    named: Mapping[str, tuple[Named, ...]]
    position: Position
    in_positions: Mapping[str, Position]


Wires = dict[str, tuple[Wire, ...]]


class Wiring:
    """Wires all stages of one recipe; `problems` says what was in doubt."""

    def __init__(self, stages: Mapping[str, Unwired], *, views: Iterable[str] = ()) -> None:
        self.stages = stages
        self._outputs = [
            (Wire(stage_id, name), output)
            for stage_id, unwired in sorted(stages.items())
            for name, output in unwired.stage.outputs().items()
        ]
        self.views = frozenset(views)
        self.problems: list[Problem] = []
        self.wires: dict[str, Wires] = {}

    def wire_all(self) -> dict[str, Wires]:
        """The wires of every stage; filters first, since what they refine is nobody else's candidate."""
        self.wires = {stage_id: self._wire_named(stage_id) for stage_id in self.stages}
        refiners = [
            stage_id
            for stage_id, unwired in self.stages.items()
            if any(out.refines for out in unwired.stage.outputs().values())
        ]
        for stage_id in [*refiners, *(name for name in self.stages if name not in refiners)]:
            self._wire_rest(stage_id)
        if not self.problems:
            self._refuse_cycles()
        return self.wires

    def order(self) -> list[str]:
        """Stage ids, each after all that it reads; ties in the order of the ids (so the file's order never matters)."""
        waiting = {
            name: {wire.stage for wires in self.wires[name].values() for wire in wires}
            for name in self.stages
        }
        ordered: list[str] = []
        while waiting:
            ready = sorted(name for name, needs in waiting.items() if not needs & waiting.keys())
            if not ready:
                break
            ordered.extend(ready)
            for name in ready:
                del waiting[name]
        return ordered

    def _wire_named(self, stage_id: str) -> Wires:
        unwired = self.stages[stage_id]
        inputs = unwired.stage.inputs()
        wires: Wires = {}
        for name, sources in unwired.named.items():
            path = f"stages.{stage_id}.in.{name}"
            if name not in inputs:
                self.problems.append(
                    Problem(
                        message=f"unknown input '{name}' for {unwired.stage.uses}",
                        where=unwired.in_positions[name], path=path,
                        allowed=", ".join(sorted(inputs)) or f"{unwired.stage.uses} has no inputs",
                        hint=nearest(name, inputs),
                    )
                )  # fmt: skip
                continue
            wanted = inputs[name]
            if len(sources) > 1 and not (wanted.many or wanted.each):
                self.problems.append(
                    Problem(
                        message=f"got {len(sources)} sources, but '{name}' takes one",
                        where=sources[0].position,
                        path=path,
                    )
                )
            found = (self._find(stage_id, wanted, source, path) for source in sources)
            wires[name] = tuple(wire for wire in found if wire is not None)
            if wanted.each:
                self._refuse_twice(wires[name], sources, path)
        return wires

    def _refuse_twice(self, wires: tuple[Wire, ...], sources: tuple[Named, ...], path: str) -> None:
        """Units are named by the stage behind their element, so each stage stands once."""
        ids = [wire.stage for wire in wires]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            self.problems.append(
                Problem(
                    message=f"got {', '.join(map(repr, twice))} more than once, but each stage is taken once",
                    where=sources[-1].position,
                    path=path,
                )
            )

    def _find(self, stage_id: str, wanted: Input[Any], source: Named, path: str) -> Wire | None:
        """The output that a source names, or None and a problem."""
        other, _, output = source.text.partition(".")
        problem: str | None = None
        allowed = hint = ""
        if other not in self.stages:
            problem = (
                f"'{other}' is a view, and views have no outputs"
                if other in self.views
                else f"no stage has the id '{other}'"
            )
            fitting = sorted({wire.stage for wire in self._fitting(wanted, but=stage_id)})
            allowed, hint = ", ".join(fitting), nearest(other, fitting or self.stages)
        elif output:
            outputs = self.stages[other].stage.outputs()
            if output not in outputs:
                problem = f"{other} ({self.stages[other].stage.uses}) has no output '{output}'"
                allowed = ", ".join(outputs)
            elif outputs[output].record is not wanted.record:
                problem = f"{source.text} holds {outputs[output].record.__name__}, but '{wanted.name}' takes {wanted.record.__name__}"
            else:
                return Wire(other, output)
        else:
            fits = [wire for wire in self._fitting(wanted, but="") if wire.stage == other]
            if len(fits) == 1:
                return fits[0]
            outputs = self.stages[other].stage.outputs()
            problem = f"{other} ({self.stages[other].stage.uses}) has {'no' if not fits else 'several'} outputs that fit '{wanted.name}' ({_what(wanted)})"
            allowed = ", ".join(
                f"{other}.{name}" for name, out in outputs.items() if out.record is wanted.record
            ) or ", ".join(map(str, self._fitting(wanted, but=stage_id)))
        self.problems.append(
            Problem(message=problem, where=source.position, path=path, allowed=allowed, hint=hint)
        )
        return None

    def _fitting(self, wanted: Input[Any], *, but: str) -> list[Wire]:
        return [
            wire for wire, output in self._outputs if wire.stage != but and _fits(wanted, output)
        ]

    def _superseded(self, *, reader: str) -> set[Wire]:
        """Outputs that a stage other than the reader refines."""
        return {
            wire
            for stage_id, unwired in self.stages.items()
            if stage_id != reader
            for output in unwired.stage.outputs().values()
            if output.refines
            for wire in self.wires[stage_id].get(output.refines, ())
        }

    def _readers_of(self, stage_id: str) -> set[str]:
        """Stages that wait for this one, by the wires known so far: to read from them would close a circle."""
        found: set[str] = set()
        waiting = [stage_id]
        while waiting:
            read = waiting.pop()
            for name, wires in self.wires.items():
                if name not in found and any(
                    wire.stage == read for source in wires.values() for wire in source
                ):
                    found.add(name)
                    waiting.append(name)
        return found

    def _wire_rest(self, stage_id: str) -> None:
        """Wire the required inputs that the recipe does not name."""
        unwired = self.stages[stage_id]
        for name, wanted in unwired.stage.inputs().items():
            if name in unwired.named or wanted.optional:
                continue
            barred = self._superseded(reader=stage_id)
            waiting = self._readers_of(stage_id)
            candidates = [
                wire
                for wire in self._fitting(wanted, but=stage_id)
                if wire not in barred and wire.stage not in waiting
            ]
            if len(candidates) == 1:
                self.wires[stage_id][name] = (candidates[0],)
                continue
            several = len(candidates) > 1
            message = f"'{name}' ({_what(wanted)}) could come from {len(candidates)} stages" if several else (
                f"nothing in this recipe gives '{name}' ({_what(wanted)})"
            )  # fmt: skip
            hint = (
                f"say which: in: {{{name}: {candidates[0].stage}}}"
                if several
                else "add a stage that makes it, or name one under `in`"
            )
            self.problems.append(
                Problem(
                    message=message, where=unwired.position, path=f"stages.{stage_id}.in.{name}",
                    allowed=", ".join(map(str, candidates)), hint=hint,
                )
            )  # fmt: skip

    def _refuse_cycles(self) -> None:
        stuck = set(self.stages) - set(self.order())
        if stuck:
            circle = self._circle(stuck)
            self.problems.append(
                Problem(
                    message=f"these stages wait for each other in a circle: {' <- '.join(circle)}",
                    where=self.stages[circle[0]].position, path="stages", hint="name another source under `in` of one of them",
                )
            )  # fmt: skip

    def _circle(self, stuck: set[str]) -> list[str]:
        """One circle among stages that cannot start, each followed by what it reads, the first again at the end."""
        trail = [min(stuck)]
        while trail[-1] not in trail[:-1]:
            reads = {wire.stage for wires in self.wires[trail[-1]].values() for wire in wires}
            trail.append(min(reads & stuck))
        members = trail[trail.index(trail[-1]) : -1]
        start = members.index(min(members))
        return [*members[start:], *members[:start], members[start]]


def _fits(wanted: Input[Any], output: Output[Any]) -> bool:
    return output.record is wanted.record and output.role == wanted.role


def _what(wanted: Input[Any]) -> str:
    return f"{wanted.record.__name__}, {wanted.role}" if wanted.role else wanted.record.__name__
