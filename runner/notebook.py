"""kpod from Python: the objects that the commands use, by the names that a notebook wants.

import kpod.runner as kpod
session = kpod.load("quickstart", settings={"stages.standard.with.epochs": 3})
print(session.plan())
run = session.run()
run.metrics()["kpod"].accuracy
pandas.DataFrame(run.records("verified", "verified"))
kpod.diff("last:standard", "last:kpod").scores[0].sentence
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpod.runner.archive import Archive, find_run
from kpod.runner.session import RunOptions, Session


def load(
    recipe: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    runs: str | Path = "runs",
    store: str | Path | None = None,
    offline: bool = False,
    budget_usd: float | None = None,
) -> Session:
    """A recipe, read and checked: `.plan()` says what would run, `.run()` runs it and gives the archive.

    Args:
        recipe: a YAML file, or the bare name of a recipe that ships with kpod.
        settings: values to change, by dotted name, as `--set` does.
        runs: folder of the archives.
        store: folder of the results; None: runs/.store.
        offline: never ask the model hub.
        budget_usd: the most that the run may spend; None: no limit.

    Raises:
        RecipeError: with everything that is wrong, each with its place.
    """
    options = RunOptions(
        runs=Path(runs), store=None if store is None else Path(store), offline=offline, budget_usd=budget_usd,
        settings=[f"{name}={json.dumps(value)}" for name, value in (settings or {}).items()],
    )  # fmt: skip
    return Session(Path(recipe), options)


def open_run(name: str | Path = "last", *, runs: str | Path = "runs") -> Archive:
    """An archived run.

    Args:
        name: a folder, its name, an unambiguous part of it, or `last`.
        runs: folder of the archives.

    Raises:
        KpodError: there is none, or several.
    """
    return find_run(str(name), Path(runs))
