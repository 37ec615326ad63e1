"""What every built-in stage keeps: one name in three places, a documented Config, a version that follows its code."""

from __future__ import annotations

import ast
import dataclasses
import json
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Stage, View
from kpod.runner.recipe_schema import all_schemas, schema_folder, stage_schema
from kpod.runner.registry import STAGES, AnyStage, find_stage
from kpod.runner.schema import describe, render_schema
from kpod.runner.stage import unfit_sockets
from tests.contract.code import code_digest

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "stage_versions.json"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"

each_stage = pytest.mark.parametrize("uses", sorted(STAGES))


@each_stage
def test_a_name_stands_in_three_places(uses: str) -> None:
    kind, method = uses.split(".")
    assert (ROOT / "stages" / kind / f"{method}.py").exists()
    assert (ROOT / "schemas" / f"{uses}.schema.json").exists()
    assert uses == find_stage(uses).uses


def test_every_public_module_of_a_kind_is_in_the_table() -> None:
    found = {
        f"{path.parent.name}.{path.stem}"
        for path in (ROOT / "stages").glob("[a-z]*/*.py")
        if not path.stem.startswith("_")
    }

    assert set(STAGES) == found


@each_stage
def test_inputs_and_outputs_can_be(uses: str) -> None:
    assert unfit_sockets(find_stage(uses)) == ""


@each_stage
def test_a_stage_says_what_it_does_and_each_setting_what_it_means(uses: str) -> None:
    stage = find_stage(uses)

    assert (stage.__doc__ or "").strip()
    assert (import_module(stage.__module__).__doc__ or "").strip()
    assert [setting.name for setting in describe(stage.config_class) if not setting.doc] == []


@each_stage
def test_a_stage_has_a_version_inputs_and_outputs_that_fit(uses: str) -> None:
    stage = find_stage(uses)
    if issubclass(stage, View):
        return
    assert isinstance(stage.version, int)
    assert stage.version >= 1
    assert stage.outputs()
    assert len([wanted for wanted in stage.inputs().values() if wanted.each]) <= 1
    assert {output.refines for output in stage.outputs().values()} - {None} <= set(stage.inputs())


@each_stage
def test_a_seed_of_its_own_is_a_setting_exactly_where_a_stage_declares_it(uses: str) -> None:
    stage = find_stage(uses)
    seeds = [field for field in dataclasses.fields(stage.config_class) if field.name == "seed"]
    is_data = issubclass(stage, Stage) and stage.seeded == "data"

    assert is_data == bool(seeds)
    assert all(isinstance(field.default, int) for field in seeds)


@each_stage
def test_the_committed_schema_is_what_the_config_says(uses: str) -> None:
    path = schema_folder() / f"{uses}.schema.json"

    expected = render_schema(stage_schema(find_stage(uses)))
    assert expected == path.read_text(encoding="utf-8"), "run: kpod schema --write"


def test_the_schema_folder_holds_what_is_made_and_nothing_else() -> None:
    expected = {name: render_schema(schema) for name, schema in all_schemas().items()}
    actual = {path.name: path.read_text("utf-8") for path in schema_folder().glob("*.json")}

    assert sorted(expected) == sorted(actual), "run: kpod schema --write"
    assert expected["recipe.schema.json"] == actual["recipe.schema.json"], (
        "run: kpod schema --write"
    )


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _file_of(module: str) -> Path:
    return ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def _shared_files(path: Path) -> frozenset[Path]:
    """The files of stages/ that a file imports, one by one or as names of a package."""
    found: set[Path] = set()
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kpod.stages"):
            module = node.module or ""
            below = [_file_of(f"{module}.{alias.name}") for alias in node.names]
            found |= {file for file in [_file_of(module), *below] if file.exists()}
    return frozenset(found)


def _files(stage: AnyStage) -> dict[str, str]:
    """Digests of a stage's file and of all of stages/ that it imports, by path."""
    waiting, seen = {_file_of(stage.__module__)}, set()
    while waiting:
        path = waiting.pop()
        seen.add(path)
        waiting |= _shared_files(path) - seen
    return {path.relative_to(ROOT).as_posix(): code_digest(path) for path in sorted(seen)}


def _facts(uses: str) -> dict[str, Any]:
    stage = find_stage(uses)
    assert issubclass(stage, Stage)
    return {"version": stage.version, "files": _files(stage)}


def _keyed() -> list[str]:
    return [uses for uses in sorted(STAGES) if issubclass(find_stage(uses), Stage)]


def test_when_code_moves_the_version_does_or_the_baseline(request: pytest.FixtureRequest) -> None:
    facts = {uses: _facts(uses) for uses in _keyed()}
    if request.config.getoption("--rebaseline"):
        text = json.dumps({"python": PYTHON, "stages": facts}, indent=1, sort_keys=True)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    if golden["python"] != PYTHON:
        pytest.skip(f"syntax trees of Python {golden['python']} are not those of {PYTHON}")

    told = [
        line
        for uses, fact in facts.items()
        if (line := _difference(uses, golden["stages"].get(uses), fact))
    ]
    assert not told, "\n".join(
        [*told, "results change: raise `version` in the stage's file, then: pytest tests/contract --rebaseline",
         "results stay byte for byte: pytest tests/contract --rebaseline"]
    )  # fmt: skip


def _difference(uses: str, golden: dict[str, Any] | None, actual: dict[str, Any]) -> str:
    if golden is None:
        return f"{uses} is new"
    if golden["version"] != actual["version"]:
        return f"{uses} has version {actual['version']}, and {golden['version']} is recorded"
    old, new = golden["files"], actual["files"]
    moved = [path for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
    return f"{uses} has other code under the same version: {', '.join(moved)}" if moved else ""


def test_the_guard_of_versions_sees_code_and_not_comments(tmp_path: Path) -> None:
    texts = ['"""A."""\nx = 1\n', '"""B."""\nx = 1  # one\n', '"""A."""\nx = 2\n']
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.py").write_text(text, encoding="utf-8")
    one, same, other = (code_digest(tmp_path / f"{number}.py") for number in range(3))

    assert one == same
    assert one != other
    old = {"version": 1, "files": {"a.py": one}}
    assert (
        _difference("x.y", old, {"version": 1, "files": {"a.py": other}})
        == "x.y has other code under the same version: a.py"
    )
    assert _difference("x.y", old, {**old, "version": 2}) == "x.y has version 2, and 1 is recorded"
