"""What the recipe's schema finds, with the advice that only the whole recipe can give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kpod.runner.document import Mapping, Scalar
from kpod.runner.errors import KpodError, Problem, nearest
from kpod.runner.recipe_schema import editor_schema, load_schema
from kpod.runner.registry import find_stage
from kpod.runner.stage import Stage


def with_advice(problems: Iterable[Problem], node: Mapping) -> Iterator[Problem]:
    """The problems of a composed recipe; `extends` and `like` are gone from it by then, and are named again here."""
    entry = node.entries.get("stages")
    stages = entry.node if entry and isinstance(entry.node, Mapping) else Mapping({}, node.position)
    for problem in problems:
        match problem.path.split("."):
            case [name] if name not in editor_schema()["properties"]:
                yield replace(problem, allowed=_names(editor_schema()))
            case ["stages", stage_id, "uses"] if not _has(stages, stage_id, "uses"):
                yield _without_uses(problem, stage_id, stages)
            case ["stages", stage_id, name] if name not in {"uses", "in", "with"} and _has(
                stages, stage_id, name
            ):
                yield _misplaced(problem, stages.entries[stage_id].node, name)
            case _:
                yield problem


def _names(schema: dict[str, dict[str, object]]) -> str:
    return ", ".join(sorted(schema["properties"]))


def _has(stages: Mapping, stage_id: str, key: str) -> bool:
    entry = stages.entries.get(stage_id)
    return entry is not None and isinstance(entry.node, Mapping) and key in entry.node.entries


def _without_uses(problem: Problem, stage_id: str, stages: Mapping) -> Problem:
    """A stage of which nothing is known: mostly the misspelt id of one that the recipe extends, or that `--set` means."""
    others = [name for name in stages.entries if name != stage_id and _has(stages, name, "uses")]
    return replace(
        problem,
        path=f"stages.{stage_id}",
        message=f"'{stage_id}' is no stage so far: it says neither uses nor like, nor does a recipe that this one extends",
        allowed=f"uses: kind.method, like: ID, or a stage that is there: {', '.join(others) or 'none'}",
        hint=nearest(stage_id, others),
    )


def _misplaced(problem: Problem, node: object, name: str) -> Problem:
    """A key beside `with` and `in` that belongs into one of them."""
    allowed = "in, like, uses, with"
    uses = node.entries.get("uses") if isinstance(node, Mapping) else None
    if uses is None or not isinstance(uses.node, Scalar):
        return replace(problem, allowed=allowed)
    try:
        stage = find_stage(str(uses.node.value))
    except KpodError:
        return replace(problem, allowed=allowed)
    hint = problem.hint
    if name in load_schema(stage)["properties"]:
        hint = f"it is a setting of {stage.uses}, and settings stand under with: {problem.path.rpartition('.')[0]}.with.{name}"
    elif issubclass(stage, Stage) and name in stage.inputs():
        hint = f"it is an input of {stage.uses}, and inputs stand under in: {problem.path.rpartition('.')[0]}.in.{name}"
    return replace(problem, allowed=allowed, hint=hint)
