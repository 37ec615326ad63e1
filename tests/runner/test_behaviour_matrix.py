"""What runs again after which change: a chain of seven stages, executions counted by the stages themselves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.chain import PLUGIN, Chain, finish, output_bytes, recipe, seven, step

ALL = ["numbers", "s2", "s3", "s4", "s5", "s6", "count"]


def test_the_first_run_executes_every_stage_once_in_order(chain: Chain) -> None:
    assert chain.run(seven()).executed == ALL


def test_nothing_changed_executes_nothing(chain: Chain) -> None:
    chain.run(seven())

    again = chain.run()

    assert again.executed == []
    assert {"hit"} == {unit.status for unit in again.archive.units.values()}


def test_an_input_file_with_a_new_time_stamp_and_the_same_bytes_executes_nothing(
    chain: Chain,
) -> None:
    numbers = chain.folder / "numbers.txt"
    numbers.write_text("1 2 3", encoding="utf-8")
    chain.run(seven(s1={"path": "numbers.txt"}))
    os.utime(numbers, (1_000_000_000, 1_000_000_000))

    assert chain.run().executed == []


def test_an_input_file_with_other_bytes_executes_what_changes(chain: Chain) -> None:
    numbers = chain.folder / "numbers.txt"
    numbers.write_text("1 2 3", encoding="utf-8")
    chain.run(seven(s1={"path": "numbers.txt"}))
    numbers.write_text("1 2 4", encoding="utf-8")

    again = chain.run()

    assert again.executed == ALL
    assert again.reasons["s1"] == "source changed: path"


def test_an_input_file_elsewhere_with_the_same_bytes_executes_nothing(chain: Chain) -> None:
    for name in ("here.txt", "there.txt"):
        (chain.folder / name).write_text("1 2 3", encoding="utf-8")
    chain.run(seven(s1={"path": "here.txt"}))

    assert chain.run(seven(s1={"path": "there.txt"})).executed == []


@pytest.mark.parametrize(
    ("old", "new", "executed"),
    [
        ("# a line in the journal", "# a line in that journal", 0),
        ('"""Write every question anew."""', '"""Write each question again.\n\n        Slowly.\n        """', 0),
        ('text = f"{ctx.config.word} {question.text}"', 'text = f"{ctx.config.word}  {question.text}"', 1),
    ],
    ids=["comment", "docstring", "code"],
)  # fmt: skip
def test_a_plugin_without_a_version_runs_again_when_its_code_changes_and_only_then(
    chain: Chain, tmp_path: Path, old: str, new: str, executed: int
) -> None:
    plugin = tmp_path / "plugin"
    shutil.copytree(PLUGIN, plugin, ignore=shutil.ignore_patterns("__pycache__"))
    chain.write(recipe(s1={"uses": "chain.numbers"}, s2={"uses": "chain.tag"}))
    assert chain.kpod("run", "recipe.yaml", plugin=plugin).returncode == 0
    assert chain.executions() == ["numbers", "tag"]
    code = plugin / "kpod_chain" / "tag.py"
    text = code.read_text(encoding="utf-8")
    assert old in text
    code.write_text(text.replace(old, new), encoding="utf-8")

    done = chain.kpod("run", "recipe.yaml", plugin=plugin)

    assert (done.returncode, done.stderr) == (0, "")
    assert ["tag"] * executed == chain.executions()[2:]
    assert ("version changed" in done.stdout) == bool(executed)


def test_a_stage_whose_output_stays_the_same_stops_the_change(chain: Chain) -> None:
    chain.run(seven(s3={"modulo": 1}))

    again = chain.run(seven(s2={"add": 2}, s3={"modulo": 1}))

    assert again.executed == ["s2", "s3"]


def test_a_changed_input_with_equal_output_executes_one_stage(chain: Chain) -> None:
    chain.run(seven(s2={"modulo": 1}))

    again = chain.run(seven(s1={"count": 5}, s2={"modulo": 1, "add": 2}))

    assert again.executed == ["s2"]
    assert again.reasons["s2"] == "config changed: add 1 -> 2"


def test_a_changed_parameter_executes_the_stage_and_those_whose_inputs_changed(
    chain: Chain,
) -> None:
    chain.run(seven())

    again = chain.run(seven(s4={"add": 7}))

    assert again.executed == ["s4", "s5", "s6", "count"]
    assert again.reasons["s5"] == "input changed: questions"


def test_a_parameter_changed_back_executes_nothing(chain: Chain) -> None:
    chain.run(seven())
    chain.run(seven(s4={"add": 7}))

    assert chain.run(seven()).executed == []


@pytest.mark.parametrize("output", ["s7/s6/counts.jsonl", "s4/result.jsonl"])
def test_an_output_deleted_from_the_archive_executes_nothing_and_comes_back(
    chain: Chain, output: str
) -> None:
    first = chain.run(seven())
    (first.archive.folder / "stages" / output).unlink()

    again = chain.run()

    assert again.executed == []
    assert (again.archive.folder / "stages" / output).exists()


def test_a_killed_stage_goes_on_from_its_checkpoint(chain: Chain, tmp_path: Path) -> None:
    chain.write(seven(s4={"die_at": 3}))
    killed = chain.kpod("run", "recipe.yaml")
    assert killed.returncode == -9
    before = len(chain.lines())

    done = chain.kpod("run", "recipe.yaml")

    assert (done.returncode, done.stderr) == (0, "")
    assert chain.executions() == ["numbers", "s2", "s3", "s4", "s4", "s5", "s6", "count"]
    assert "s4:0" not in chain.lines()[before:]
    items = [line for line in chain.lines() if line.startswith("s4:")]
    assert [f"s4:{number}" for number in range(5)] == items
    assert "was interrupted; continues" in done.stdout
    undisturbed = chain.run(seven(), runs=tmp_path / "other")
    archives = [path for path in chain.runs.iterdir() if (path / "run.json").exists()]
    assert len(archives) == 1
    assert output_bytes(undisturbed.archive) == output_bytes(type(undisturbed.archive)(archives[0]))


def test_two_runs_started_together_execute_every_stage_once(chain: Chain) -> None:
    (chain.folder / "numbers.txt").write_text("1 2 3 4", encoding="utf-8")
    chain.write(seven(s1={"path": "numbers.txt"}, s3={"pause_s": 0.05}, s5={"pause_s": 0.05}))

    done = [finish(p) for p in [chain.start("run", "recipe.yaml") for _ in range(2)]]

    assert [(one.returncode, one.stderr) for one in done] == [(0, ""), (0, "")]
    assert sorted(ALL) == sorted(chain.executions())


def test_a_volatile_setting_changed_executes_nothing(chain: Chain) -> None:
    chain.run(seven())

    assert chain.run(seven(s4={"name": "renamed", "pause_s": 0.001})).executed == []


def test_volatile_settings_do_not_change_the_bytes(chain: Chain, tmp_path: Path) -> None:
    plain = chain.run(seven())

    other = chain.run(seven(s4={"name": "renamed", "pause_s": 0.001}), runs=tmp_path / "other")

    assert output_bytes(plain.archive) == output_bytes(other.archive)


def _reversed(value: Any) -> Any:
    """The same data with every mapping the other way round."""
    if isinstance(value, dict):
        return {key: _reversed(item) for key, item in reversed(value.items())}
    return value


def test_mappings_in_another_order_execute_nothing(chain: Chain) -> None:
    chain.run(seven())

    assert chain.run(_reversed(seven())).executed == []


def test_renamed_ids_execute_nothing(chain: Chain) -> None:
    chain.run(seven())
    text = (chain.folder / chain.name).read_text(encoding="utf-8")
    renamed = text
    for number in range(1, 8):
        renamed = renamed.replace(f"s{number}:", f"z{8 - number}:")
        renamed = renamed.replace(f"questions: s{number}\n", f"questions: z{8 - number}\n")
        renamed = renamed.replace(f"- s{number}\n", f"- z{8 - number}\n")
    assert renamed != text

    assert chain.run(renamed).executed == []


def test_a_raised_version_executes_the_stages_of_that_class_and_what_changes(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kpod_chain.count import Count
    from kpod_chain.step import Step

    chain.run(seven())
    monkeypatch.setattr(Count, "version", 2)
    last = chain.run()
    monkeypatch.setattr(Step, "version", 2)
    steps = chain.run()

    assert last.executed == ["count"]
    assert last.reasons["s7[s6]"] == "version changed: 1 -> 2"
    assert steps.executed == ["s2", "s3", "s4", "s5", "s6"]


def test_an_added_arm_executes_only_that_arm(chain: Chain) -> None:
    before = seven()
    chain.run(before)
    stages = dict(before["stages"])
    stages["arm"] = step("s5", "arm", add=9)
    stages["s7"] = {"uses": "chain.count", "in": {"questions": ["s6", "arm"]}}

    again = chain.run(recipe(**stages))

    assert again.executed == ["arm", "count"]
    assert tuple(again.archive.units[name].status for name in ("s7[s6]", "s7[arm]")) == (
        "hit",
        "run",
    )


def test_a_changed_seed_of_the_recipe_leaves_unseeded_stages_alone(chain: Chain) -> None:
    chain.run(seven())

    assert chain.run({**seven(), "seed": 9}).executed == []
