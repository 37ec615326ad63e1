"""Who may import whom, what ships, and that every recipe is right."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import kpod.runner as door
from kpod.runner.recipe import load_recipe

ROOT = Path(__file__).parents[2]
FOLDERS = ("recipes", "runner", "schemas", "stages")
HEAVY = {"torch", "transformers", "datasets", "sklearn", "numpy", "pyarrow", "peft", "bitsandbytes", "accelerate", "jsonschema", "huggingface_hub", "safetensors", "tokenizers", "gguf", "sentencepiece", "rich", "jinja2", "pandas", "scipy"}  # fmt: skip
NEVER_IN_RUNNER = {"torch", "transformers", "datasets", "sklearn", "peft", "bitsandbytes", "accelerate"}  # fmt: skip

MODULES = [path for folder in ("runner", "stages") for path in sorted((ROOT / folder).rglob("*.py"))]  # fmt: skip
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())  # fmt: skip


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Each module that a file imports, and whether importing the file imports it (not in a function, not for types only)."""

    def walk(node: ast.AST, *, is_eager: bool) -> Iterator[tuple[str, bool]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, is_eager) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path} imports relatively"
                yield from ((f"{child.module}:{alias.name}", is_eager) for alias in child.names)
            is_lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            is_lazy |= isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            yield from walk(child, is_eager=is_eager and not is_lazy)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), is_eager=True)


def _allowed_in_stages(path: Path, module: str, *, is_eager: bool) -> bool:
    """The door and its two rooms, the shared language-model code, and the kind's own private files."""
    kind = path.relative_to(ROOT / "stages").parts[0]
    name, _, item = module.partition(":")
    if name == "kpod.runner":
        return item in door.__all__
    if name in {"kpod.runner.texts", "kpod.runner.capability"}:
        return not item.startswith("_")
    if kind == "report" and name == "kpod.runner.archive":  # a view reads the archive
        return not item.startswith("_")
    if name.startswith("kpod.stages._lm"):
        return True
    own = f"kpod.stages.{kind}"
    if path.stem.startswith("_") and not is_eager and name.startswith(f"{own}."):
        return True  # a private file names, as a type, the stage that it works for
    return name.startswith(f"{own}._") or (name == own and item.startswith("_"))


@each_module
def test_a_module_imports_only_what_it_may(path: Path) -> None:
    ours = [
        (name, eager)
        for name, eager in _imports(path)
        if name.split(".")[0].split(":")[0] == "kpod"
    ]
    if path.is_relative_to(ROOT / "stages"):
        refused = [
            name for name, eager in ours if not _allowed_in_stages(path, name, is_eager=eager)
        ]
    else:
        refused = [name for name, _ in ours if not name.startswith("kpod.runner")]
    assert refused == []


@each_module
def test_heavy_libraries_are_imported_only_where_they_are_used(path: Path) -> None:
    tops = [(name.partition(":")[0].partition(".")[0], is_eager) for name, is_eager in _imports(path)]  # fmt: skip

    assert [name for name, is_eager in tops if is_eager and name in HEAVY] == []
    if path.is_relative_to(ROOT / "runner") and path.name != "doctor.py":  # it tries the library
        assert [name for name, _ in tops if name in NEVER_IN_RUNNER] == []


@each_module
def test_a_module_has_one_noun_and_fits_on_some_screens(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) < 300
    assert ast.get_docstring(ast.parse(text)) or not text
    assert path.stem not in {"utils", "helpers", "common", "misc"}


def test_the_packages_that_ship_are_those_on_the_disk() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    found = {
        ".".join(("kpod", *path.parent.relative_to(ROOT).parts))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    }

    assert sorted(listed) == listed
    assert found == set(listed)
    assert set(project["tool"]["setuptools"]["package-dir"]) == {f"kpod.{name}" for name in FOLDERS}


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}

    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_data_beside_the_code_ships() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]
    for package in project["tool"]["setuptools"]["packages"]:
        folder = ROOT.joinpath(*package.split(".")[1:])
        data = {path for path in folder.iterdir() if path.is_file() and path.suffix not in {".py", ".pyc"}}  # fmt: skip
        shipped = {path for pattern in patterns.get(package, []) for path in folder.glob(pattern)}
        assert data <= shipped, f"package-data of {package}"


def test_every_name_of_the_door_is_there_and_stands_once() -> None:
    homes = [name for names in door._HOMES.values() for name in names]

    assert sorted(homes) == sorted(set(homes)) == sorted(door.__all__)
    for module, names in door._HOMES.items():
        for name in names:
            assert getattr(door, name) is getattr(import_module(module), name)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = door.nothing


def test_the_door_says_the_same_to_type_checkers_and_at_run_time() -> None:
    typed = {name.partition(":")[2] for name, is_eager in _imports(ROOT / "runner" / "__init__.py") if not is_eager and name.startswith("kpod.runner.")}  # fmt: skip

    assert set(door.__all__) == typed


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("[!_]*.yaml")), ids=lambda path: path.stem)  # fmt: skip
def test_every_recipe_is_valid_and_commented(path: Path) -> None:
    recipe = load_recipe(path)

    text = path.read_text(encoding="utf-8")
    assert path.stem == recipe.name
    assert recipe.description
    assert "#" in text
    assert text.startswith("# yaml-language-server: $schema=../schemas/recipe.schema.json\n")


def test_nothing_that_is_written_names_a_path_of_one_machine() -> None:
    marks = ("/".join(("", "work", "")), "/".join(("", "home", "")))
    paths = [
        path
        for folder in (*FOLDERS, "tests")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".yaml", ".json", ".jinja", ".md", ".txt"}
    ]

    assert [
        path.relative_to(ROOT).as_posix()
        for path in paths
        if any(mark in path.read_text(encoding="utf-8") for mark in marks)
    ] == []
