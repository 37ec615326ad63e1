"""Where every stage of a recipe runs: its own placement over the recipe's default, checked against what the stage can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kpod.runner import document
from kpod.runner.errors import Problem, nearest
from kpod.runner.paths import with_absolute
from kpod.runner.recipe import Placement
from kpod.runner.stage import Stage

# What says how many processes run a stage.
_TOGETHER = ("processes", "accelerate")


def placements(
    recipe: document.Mapping, stages: Mapping[str, type[Stage[Any]]]
) -> dict[str, Placement]:
    """The placement of every stage. What the default says of processes is for stages that can be split.

    Args:
        recipe: the document, found right by the schema.
        stages: their classes, by id.
    """
    node = document.find(recipe, ["placement"])
    plain = {} if node is None else document.plain(node) or {}
    for name in (("default", "accelerate"), ("stages", "*", "accelerate")):
        plain = with_absolute(plain, node, name)
    default, own = plain.get("default") or {}, plain.get("stages") or {}
    whole = {name: value for name, value in default.items() if name not in _TOGETHER}
    return {
        stage_id: Placement(
            **{**(default if stage.parallel else whole), **(own.get(stage_id) or {})}
        )
        for stage_id, stage in stages.items()
    }


def placement_problems(
    recipe: document.Mapping, stages: Mapping[str, type[Stage[Any]]]
) -> Iterator[Problem]:
    """Placements of stages that are not there, and several processes for a stage that cannot be split."""
    placed = document.find(recipe, ["placement", "stages"])
    for stage_id, entry in placed.entries.items() if isinstance(placed, document.Mapping) else ():
        if stage_id not in stages:
            yield Problem(
                message=f"no stage has the id '{stage_id}'", where=entry.key_position, path="placement.stages",
                allowed=", ".join(stages), hint=nearest(stage_id, stages),
            )  # fmt: skip
        elif not stages[stage_id].parallel:
            yield from _too_many(stage_id, stages[stage_id], entry.node)


def _too_many(stage_id: str, stage: type[Stage[Any]], node: document.Node) -> Iterator[Problem]:
    said = document.plain(node) or {}
    for name in _TOGETHER:
        value = said.get(name, 1)
        if value not in (1, None):
            entry = document.find(node, [name])
            yield Problem(
                message=f"got {name}: {value}, but {stage.uses} runs in one process",
                where=entry.position if entry else None, path=f"placement.stages.{stage_id}.{name}",
                allowed="stages that can be split among processes, such as students",
                hint="drop it, or set it under placement.default, which other stages pass over",
            )  # fmt: skip
