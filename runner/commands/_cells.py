"""The cells of a sweep before anything runs: every recipe checked, runs that were made earlier found, what all share named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive, list_runs
from kpod.runner.canonical import digest_of
from kpod.runner.capability import read_capability
from kpod.runner.config import config_to_json
from kpod.runner.errors import KpodError, Position, Problem, RecipeError
from kpod.runner.matrix import Cell, Combination
from kpod.runner.outside import Outside, SourceMissing
from kpod.runner.plan import Assessment, Planner
from kpod.runner.recipe import Recipe, load_recipe
from kpod.runner.session import RunOptions
from kpod.runner.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedCell:
    """A cell that can be run.

    Args:
        recipe: of this cell, under its seed.
        planned: its units, in order.
        archive: the newest complete run of just this, where there is one: all its results are in the store.
    """

    cell: Cell
    recipe: Recipe
    planned: list[Assessment]
    archive: Archive | None


def check_recipes(
    path: Path, options: RunOptions, combinations: Sequence[Combination]
) -> dict[str, Recipe]:
    """The recipe of every combination, by label.

    Raises:
        RecipeError: everything that is wrong in any of them; what is wrong in some only is told with their labels. Also where
            two combinations are one and the same recipe.
    """
    store = options.open_store()
    recipes: dict[str, Recipe] = {}
    wrong: dict[Problem, list[str]] = {}
    try:
        for combination in combinations:
            settings = [*options.settings, *combination.settings]
            try:
                recipes[combination.label] = load_recipe(path, settings=settings, memo=store.memo)
            except RecipeError as error:
                for problem in error.problems:
                    wrong.setdefault(problem, []).append(combination.label)
    finally:
        store.close()
    if wrong:
        raise RecipeError(
            _placed(problem, labels, is_everywhere=len(labels) == len(combinations))
            for problem, labels in wrong.items()
        )
    _refuse_twins(recipes)
    return recipes


def _placed(problem: Problem, labels: Sequence[str], *, is_everywhere: bool) -> Problem:
    """The problem, with the combinations that have it where not all do; each value is a problem of its own."""
    if is_everywhere:
        return problem
    where = Position(f"{problem.where or '--matrix'} ({'; '.join(labels)})")
    return replace(problem, where=where)


def _refuse_twins(recipes: Mapping[str, Recipe]) -> None:
    known: dict[str, str] = {}
    for label, recipe in recipes.items():
        first = known.setdefault(digest_of(recipe.resolved()), label)
        if first != label:
            raise RecipeError(
                [
                    Problem(
                        message=f"'{first}' and '{label}' are one and the same recipe",
                        where=Position("--matrix"),
                        hint="one of the settings is overwritten by another; sweep only what changes the recipe",
                    )
                ]
            )


def check_cells(
    options: RunOptions, cells: Sequence[Cell], recipes: Mapping[str, Recipe]
) -> list[CheckedCell]:
    """Every cell with what would run; nothing is run.

    Raises:
        SourceMissing: files that some cell reads are not there; all of them are named.
    """
    store = options.open_store()
    try:
        return list(_checked(options, cells, recipes, store))
    finally:
        store.close()


def _checked(
    options: RunOptions, cells: Sequence[Cell], recipes: Mapping[str, Recipe], store: Store
) -> Iterator[CheckedCell]:
    outside = Outside(memo=store.memo, offline=options.offline, refresh=options.refresh)
    capability, done = read_capability(), None
    missing: dict[str, None] = {}
    checked: list[CheckedCell] = []
    for cell in cells:
        recipe = replace(recipes[cell.combination.label], seed=cell.seed)
        planner = Planner(
            recipe, store, outside=outside, capability=capability, retry_refused=options.retry_refused
        )  # fmt: skip
        try:
            planned = planner.plan()
        except SourceMissing as error:
            missing |= dict.fromkeys(str(error).splitlines())
            continue
        archive = None
        if all(found.status == "hit" for found in planned):
            done = _complete_runs(options.runs, recipe.name) if done is None else done
            archive = done.get(_identity(recipe, planned))
        checked.append(CheckedCell(cell=cell, recipe=recipe, planned=planned, archive=archive))
    if missing:
        last = "nothing was run"
        raise SourceMissing("\n".join([*(line for line in missing if line != last), last]))
    yield from checked


def _identity(recipe: Recipe, planned: Sequence[Assessment]) -> str:
    """What makes a run this cell's: the seed, the keys of all units, and what is shown of them."""
    keys = {found.unit.name: found.key for found in planned}
    views = {view.id: view.uses for view in recipe.views.values()}
    return digest_of([recipe.seed, list(recipe.primary), views, keys])


def _complete_runs(runs: Path, name: str) -> dict[str, Archive]:
    """The newest complete run of each identity among those of a recipe's name; one whose scores cannot be read here is none."""
    found: dict[str, Archive] = {}
    for archive in list_runs(runs):
        if f"-{name}-" not in archive.name or not archive.is_complete:
            continue
        try:
            facts: dict[str, Any] = archive.facts
            archive.metrics()
        except KpodError:
            continue
        keys = {row["name"]: row["manifest"]["key"] for row in facts["units"]}
        found[digest_of([facts["seed"], facts["primary"], facts["views"], keys])] = archive
    return found


def shared_first(cells: Sequence[CheckedCell]) -> frozenset[str]:
    """The units that all these cells need and the first one makes before anything of its own: they are to be made once.

    Args:
        cells: those that are still to be run, at least one.
    """
    if len(cells) == 1:
        return frozenset()
    first, *others = (_recipes_of_stages(each.recipe) for each in cells)
    shared = {
        stage for stage, made_from in first.items() if all(each.get(stage) == made_from for each in others)
    }  # fmt: skip
    waited: set[str] = set()
    for found in cells[0].planned:
        if found.status == "hit":
            continue
        if found.unit.stage.id not in shared:
            break
        waited.add(found.unit.name)
    return frozenset(waited)


def _recipes_of_stages(recipe: Recipe) -> dict[str, str]:
    """By stage: all that its result is made from, as far as a recipe tells."""
    told: dict[str, str] = {}
    for stage in recipe.stages.values():
        wires = {
            name: [[told[wire.stage], wire.output] for wire in wires]
            for name, wires in stage.wires.items()
        }
        seed = recipe.seed if stage.stage.seeded == "recipe" else None
        told[stage.id] = digest_of([stage.uses, config_to_json(stage.config), wires, seed])
    return told
