"""Which class stands behind a `uses`: one literal table, and the entry-point group `kpod.stages` for what it lacks.

One name, three places: `uses: teacher.local` = stages/teacher/local.py = schemas/teacher.local.schema.json.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from kpod.runner.config import unfit_default
from kpod.runner.errors import KpodError, nearest
from kpod.runner.stage import Stage, View, unfit_sockets

STAGES = {
    "clustering.kmeans": "KMeans",
    "curriculum.progressive": "Progressive",
    "curriculum.random": "Random",
    "curriculum.reversed": "Reversed",
    "data.asdiv": "Asdiv",
    "data.commonsense_qa": "CommonsenseQa",
    "data.gsm8k": "Gsm8k",
    "data.svamp": "Svamp",
    "data.table": "Table",
    "data.word_problems": "WordProblems",
    "difficulty.step_count": "StepCount",
    "difficulty.weighted_nll": "WeightedNll",
    "evaluate.accuracy": "Accuracy",
    "evaluate.first_error": "FirstError",
    "filter.verified": "Verified",
    "model.from_config": "FromConfig",
    "model.pretrained": "Pretrained",
    "report.html": "Html",
    "student.causal_lm": "CausalLm",
    "student.seq2seq_lm": "Seq2SeqLm",
    "teacher.local": "Local",
    "teacher.openai": "OpenAi",
    "teacher.recorded": "Recorded",
    "teacher.reference": "Reference",
    "weighting.mask_learning": "MaskLearning",
    "weighting.random": "Random",
    "weighting.rules": "Rules",
    "weighting.shuffled": "Shuffled",
    "weighting.uniform": "Uniform",
}

ENTRY_POINT_GROUP = "kpod.stages"

AnyStage = type[Stage[Any]] | type[View[Any]]


class UnknownStage(KpodError):
    """A `uses` that neither the table nor an installed plug-in has."""

    def __init__(self, uses: str) -> None:
        self.uses = uses
        names = stage_names()
        kind = [name for name in names if name.startswith(f"{uses.partition('.')[0]}.")]
        hint = nearest(uses, names)
        allowed = f"\nallowed: {', '.join(kind or names)}"
        super().__init__(f"unknown stage '{uses}'{allowed}" + (f"\n{hint}" if hint else ""))


class BrokenPlugin(KpodError):
    """A stage's module cannot be loaded, or is not what it says."""

    def __init__(self, uses: str, reason: str) -> None:
        super().__init__(f"the stage '{uses}' cannot be used: {reason}")


def stage_names() -> list[str]:
    """All names that a recipe may use: built in and installed, sorted."""
    return sorted({*STAGES, *_plugins()})


@cache
def find_stage(uses: str) -> AnyStage:
    """The class behind a name.

    Raises:
        UnknownStage: nobody offers it.
        BrokenPlugin: it is offered, but its module does not load, or holds something else.
    """
    where = f"kpod.stages.{uses}:{STAGES[uses]}" if uses in STAGES else _plugins().get(uses)
    if where is None:
        raise UnknownStage(uses)
    module, _, name = where.partition(":")
    try:
        loaded = getattr(import_module(module), name)
    except Exception as error:
        raise BrokenPlugin(uses, f"{where}: {type(error).__name__}: {error}") from error
    if not (isinstance(loaded, type) and issubclass(loaded, Stage | View)):
        raise BrokenPlugin(uses, f"{where} is not a Stage")
    if getattr(loaded, "uses", None) != uses:
        raise BrokenPlugin(uses, f"{where} says uses = {getattr(loaded, 'uses', None)!r}")
    if uses not in STAGES:
        _check_declared(uses, where, loaded)
    return loaded


def _check_declared(uses: str, where: str, stage: AnyStage) -> None:
    """Settings, inputs and outputs of a plug-in; those of kpod's own stages have tests."""
    try:
        reason = unfit_default(stage.config_class) or unfit_sockets(stage)
    except Exception as error:
        raise BrokenPlugin(uses, f"{where}: {type(error).__name__}: {error}") from error
    if reason:
        raise BrokenPlugin(uses, f"{where}: {reason}")


def suggestion(uses: str) -> str:
    """The nearest known name, as a hint."""
    return nearest(uses, stage_names())


@cache
def _plugins() -> dict[str, str]:
    """`module:class` of every installed plug-in, by the name it offers; the first on the search path wins.

    Reads the entry points as importlib.metadata would, without importing it: that costs 0.06 s, a fifth of a run
    with nothing to do.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 - names are wanted
        except OSError:
            continue
        for name in sorted(names):
            if name.endswith((".dist-info", ".egg-info")):
                path = Path(place or ".") / name / "entry_points.txt"
                text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
                if f"[{ENTRY_POINT_GROUP}]" in text:
                    found = {**_entry_points(text), **found}
    return found


def _entry_points(text: str) -> dict[str, str]:
    """The entry points of our group in an `entry_points.txt`."""
    from configparser import ConfigParser

    parser = ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = lambda optionstr: optionstr  # type: ignore[method-assign]
    parser.read_string(text)
    return {name: value.strip() for name, value in parser[ENTRY_POINT_GROUP].items()}


def code_digest(stage: type) -> str:
    """Digest of what a stage's module does: its syntax tree without docstrings, comments and positions."""
    import ast
    import hashlib

    module = sys.modules[stage.__module__]
    assert module.__file__ is not None, f"{stage.__module__} has no file"
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_docstring(body[0]):
            del body[0]
    return hashlib.sha256(ast.dump(tree, include_attributes=False).encode()).hexdigest()


def _is_docstring(node: Any) -> bool:
    import ast

    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
