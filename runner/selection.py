"""Parts of a recipe: what a stage needs, and what is made from it."""

from __future__ import annotations

from dataclasses import replace

from kpod.runner.errors import KpodError, nearest
from kpod.runner.recipe import Recipe


def needed_for(recipe: Recipe, last: str) -> Recipe:
    """The recipe cut down to a stage and all that it reads; views are left out.

    Raises:
        KpodError: there is no such stage.
    """
    check_ids(recipe, [last])
    needed = {last}
    for stage in reversed(recipe.stages.values()):
        if stage.id in needed:
            needed |= {wire.stage for wires in stage.wires.values() for wire in wires}
    stages = {name: stage for name, stage in recipe.stages.items() if name in needed}
    primary = recipe.primary if set(recipe.primary) <= needed else ()
    return replace(recipe, stages=stages, views={}, primary=primary)


def downstream_of(recipe: Recipe, first: str) -> frozenset[str]:
    """A stage and all that is made from it."""
    check_ids(recipe, [first])
    reached = {first}
    for stage in recipe.stages.values():
        if any(wire.stage in reached for wires in stage.wires.values() for wire in wires):
            reached.add(stage.id)
    return frozenset(reached)


def check_ids(recipe: Recipe, ids: list[str]) -> None:
    """Raise a KpodError for the first id that the recipe does not have."""
    for name in ids:
        if name in recipe.views:
            raise KpodError(
                f"'{name}' ({recipe.views[name].uses}) is a view, which every whole run makes again\n"
                f"allowed: {', '.join(recipe.stages)}"
            )
        if name not in recipe.stages:
            hint = nearest(name.partition("[")[0], recipe.stages)
            raise KpodError(
                f"no stage has the id '{name}'\nallowed: {', '.join(recipe.stages)}\n{hint}".rstrip()
            )
