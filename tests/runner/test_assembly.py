"""One recipe out of its parts: extends, --set, like; every value keeps its origin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kpod.runner import RecipeError
from kpod.runner.assembly import compose, find_recipe
from kpod.runner.document import plain
from kpod.runner.recipe import load_recipe
from tests.chain import Chain

BASE = """\
kpod: 1
name: base
seed: 3
stages:
  numbers: {uses: chain.numbers, with: {count: 4, path: null}}
  next: {uses: chain.step, in: {questions: numbers}, with: {add: 2, modulo: 9}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "base.yaml").write_text(BASE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def composed(folder: Path, text: str, *settings: str) -> dict[str, Any]:
    """The composed recipe as plain data."""
    (folder / "recipe.yaml").write_text(text, encoding="utf-8")
    found: dict[str, Any] = plain(compose(Path("recipe.yaml"), settings=settings))
    return found


def test_maps_merge_deep_and_null_deletes(folder: Path) -> None:
    found = composed(
        folder,
        "extends: [base.yaml]\nname: mine\nstages:\n  next: {with: {add: 5, modulo: null}}\n  numbers: {with: {path: x}}\n",
    )

    assert (found["name"], found["seed"]) == ("mine", 3)
    assert found["stages"]["next"]["with"] == {"add": 5}
    assert found["stages"]["numbers"]["with"] == {"count": 4, "path": "x"}
    assert found["stages"]["next"]["in"] == {"questions": "numbers"}


def test_a_later_base_wins_over_an_earlier_one_and_the_recipe_over_both(folder: Path) -> None:
    (folder / "more.yaml").write_text("seed: 4\ndescription: more\n", encoding="utf-8")

    found = composed(folder, "extends: [base.yaml, more.yaml]\ndescription: mine\n")

    assert (found["seed"], found["description"]) == (4, "mine")


def test_a_base_may_extend_another_and_is_found_from_its_own_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "middle.yaml").write_text(
        "extends: [../base.yaml]\nseed: 8\n", encoding="utf-8"
    )

    assert composed(folder, "extends: [sub/middle.yaml]\n")["seed"] == 8


def test_a_stage_of_a_base_can_be_taken_out(folder: Path) -> None:
    found = composed(folder, "extends: [base.yaml]\nstages: {next: null}\n")

    assert list(found["stages"]) == ["numbers"]


def test_like_takes_another_stage_with_changes_and_null_unwires(folder: Path) -> None:
    found = composed(
        folder,
        BASE
        + "  more: {like: next, in: {questions: null}, with: {add: 7}}\n  most: {like: more, with: {modulo: null}}\n",
    )

    assert found["stages"]["more"] == {
        "uses": "chain.step",
        "in": {},
        "with": {"add": 7, "modulo": 9},
    }
    assert found["stages"]["most"]["with"] == {"add": 7}


def test_null_reaches_through_like_from_a_recipe_that_extends(folder: Path) -> None:
    found = composed(
        folder,
        """\
extends: [base.yaml]
stages:
  more: {like: next, in: {questions: null}, with: {modulo: null}}
  most: {like: more, with: {add: null}}
""",
        "stages.most.with.modulo=null",
    )

    assert found["stages"]["more"] == {"uses": "chain.step", "in": {}, "with": {"add": 2}}
    assert found["stages"]["most"] == {"uses": "chain.step", "in": {}, "with": {}}


def test_like_changes_nothing_in_the_stage_it_names(folder: Path) -> None:
    found = composed(folder, BASE + "  more: {like: next, with: {add: 7}}\n")

    assert found["stages"]["next"]["with"] == {"add": 2, "modulo": 9}


def test_a_setting_of_the_command_line_reaches_all_that_are_like_the_stage(folder: Path) -> None:
    text = BASE + "  more: {like: next}\n  own: {like: next, with: {add: 7}}\n"

    found = composed(folder, text, "stages.next.with.add=5", "stages.own.with.modulo=2")

    assert found["stages"]["more"]["with"]["add"] == 5
    assert found["stages"]["own"]["with"] == {"add": 7, "modulo": 2}


def test_like_is_no_part_of_a_key(chain: Chain) -> None:
    chain.run(BASE + "  more: {like: next}\n")

    again = chain.run(BASE + "  more: {uses: chain.step, in: {questions: numbers}, with: {add: 2, modulo: 9}}\n")  # fmt: skip

    assert again.executed == []


def test_every_value_tells_where_it_came_from(folder: Path) -> None:
    (folder / "recipe.yaml").write_text("extends: [base.yaml]\nname: mine\n", encoding="utf-8")

    origins = load_recipe(Path("recipe.yaml"), settings=["stages.next.with.add=5"]).origins

    assert origins["name"] == "recipe.yaml:2:7"
    assert origins["seed"] == "base.yaml:3:7"
    assert origins["stages.numbers.with.count"] == "base.yaml:5:48"
    assert origins["stages.next.with.add"] == "--set"


def test_a_relative_path_is_taken_from_the_file_that_wrote_it(folder: Path) -> None:
    (folder / "sub").mkdir()
    base = BASE.replace("path: null", "path: data.txt")
    (folder / "sub" / "base.yaml").write_text(base, encoding="utf-8")
    path = folder / "recipe.yaml"
    path.write_text("extends: [sub/base.yaml]\n", encoding="utf-8")

    written = load_recipe(path).stages["numbers"].config.path
    typed = load_recipe(path, settings=["stages.numbers.with.path=typed.txt"])

    assert str(folder / "sub" / "data.txt") == written
    assert str(folder / "typed.txt") == typed.stages["numbers"].config.path


def test_several_bases_that_form_a_diamond_are_no_circle(folder: Path) -> None:
    for name in ("left", "right"):
        (folder / f"{name}.yaml").write_text("extends: [base.yaml]\n", encoding="utf-8")

    assert composed(folder, "extends: [left.yaml, right.yaml]\n")["name"] == "base"


@pytest.mark.parametrize(
    "value",
    ["sk-proj-abcdefghijkl", "hf_abcdefghijklmnop", "AKIAABCDEFGHIJKL", "ghp_abcdefghijklmnopqrst"],
)
def test_a_key_of_any_provider_is_refused_and_not_shown(folder: Path, value: str) -> None:
    with pytest.raises(RecipeError, match="looks like a secret") as raised:
        composed(folder, BASE + f"description: {value}\n")

    assert value not in str(raised.value)


def test_all_secrets_are_told_at_once(folder: Path) -> None:
    text = BASE + "description: sk-abcdefghijklmnop\ncompare: {primary: [hf_abcdefghijklmnop]}\n"

    with pytest.raises(RecipeError, match=r"2 errors; nothing was run"):
        composed(folder, text)


def test_the_resolved_recipe_gives_the_same_keys(chain: Chain) -> None:
    first = chain.run(BASE + "  more: {like: next}\n  all: {uses: chain.count, in: {questions: [more, next]}}\n")  # fmt: skip
    resolved = (first.archive.folder / "resolved.yaml").read_text(encoding="utf-8")

    again = chain.run(resolved)

    assert again.executed == []
    assert resolved == (again.archive.folder / "resolved.yaml").read_text(encoding="utf-8")


def test_a_bare_name_means_a_shipped_recipe_unless_a_file_has_it(folder: Path) -> None:
    assert Path("nowhere.yaml") == find_recipe("nowhere.yaml")
    assert Path("base.yaml") == find_recipe("base.yaml")


def test_a_recipe_that_ships_is_extended_by_its_bare_name_and_one_beside_it_comes_first(
    folder: Path,
) -> None:
    path = folder / "recipe.yaml"
    path.write_text(
        "extends: quickstart\nname: mine\nstages: {answer_only: null}\n", encoding="utf-8"
    )
    shipped = compose(path)
    path.write_text("extends: [base.yaml]\n", encoding="utf-8")
    (folder / "quickstart").write_text(BASE, encoding="utf-8")
    beside = composed(folder, "extends: quickstart\n")

    stages = plain(shipped)["stages"]
    assert {"standard", "kpod"} <= set(stages)
    assert "answer_only" not in stages
    assert beside["name"] == "base"


def test_a_folder_of_that_name_hides_no_recipe_that_ships(folder: Path) -> None:
    (folder / "quickstart").mkdir()
    extended = composed(folder, "extends: quickstart\n")

    assert extended["name"] == "quickstart"
    assert find_recipe("quickstart").is_file()
