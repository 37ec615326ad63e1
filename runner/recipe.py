"""A recipe, read and checked: stages with their classes, settings and wires, and where every value came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kpod.runner.assembly import compose
from kpod.runner.config import config_to_json
from kpod.runner.memo import Memo
from kpod.runner.stage import Stage, View
from kpod.runner.wiring import Wires


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a stage runs; never in a key.

    Args:
        device: auto (a CUDA device where there is one), cpu or cuda.
        threads: CPU threads for tensor work, in each process; None leaves the library's own choice.
        processes: how many run the stage together, on this machine; 1 leaves it to the accelerate config, if there is one.
        accelerate: an accelerate config file, absolute; None: what processes says.
    """

    device: str = "auto"
    threads: int | None = None
    processes: int = 1
    accelerate: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As a recipe has it; what came later is left out where it is not used."""
        facts: dict[str, Any] = {"device": self.device, "threads": self.threads}
        if self.processes != 1:
            facts["processes"] = self.processes
        if self.accelerate is not None:
            facts["accelerate"] = self.accelerate
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeStage:
    """One stage of a recipe."""

    id: str
    uses: str
    stage: type[Stage[Any]]
    config: Any
    wires: Wires
    placement: Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeView:
    """One view of a recipe."""

    id: str
    uses: str
    view: type[View[Any]]
    config: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe with nothing left open but what only a machine can say (`auto`).

    Args:
        path: the file it was read from.
        text: that file's text.
        stages: in the order in which they can run.
        primary: the ids of the comparison that the recipe is about.
        origins: where each value came from, by dotted name: `file:line:col`, `--set` or `default`.
    """

    path: Path
    text: str
    name: str
    description: str
    seed: int
    stages: dict[str, RecipeStage]
    views: dict[str, RecipeView]
    primary: tuple[str, ...]
    origins: dict[str, str] = field(default_factory=dict)

    def resolved(self) -> dict[str, Any]:
        """The recipe with every default, path and wire written out; running it gives the same keys."""
        stages: dict[str, Any] = {}
        for stage in self.stages.values():
            stages[stage.id] = {
                "uses": stage.uses,
                "in": {name: [str(wire) for wire in wires] for name, wires in stage.wires.items()},
                "with": config_to_json(stage.config),
            }
        for view in self.views.values():
            stages[view.id] = {"uses": view.uses, "with": config_to_json(view.config)}
        placements = {
            stage.id: stage.placement.to_json()
            for stage in self.stages.values()
            if stage.placement != Placement()
        }
        return {
            "kpod": 1,
            "name": self.name,
            "description": self.description,
            "seed": self.seed,
            "stages": stages,
            **({"compare": {"primary": list(self.primary)}} if self.primary else {}),
            **({"placement": {"stages": placements}} if placements else {}),
        }


def load_recipe(path: Path, *, settings: Sequence[str] = (), memo: Memo | None = None) -> Recipe:
    """Read, compose and check a recipe.

    Args:
        path: the YAML file.
        settings: `a.b=value` from the command line.
        memo: remembers the verdict of the JSON Schemas; None checks afresh.

    Raises:
        RecipeError: with everything that is wrong, each with its place.
    """
    from kpod.runner.recipe_reader import RecipeReader

    return RecipeReader(path, compose(path, settings=settings), memo).read()
