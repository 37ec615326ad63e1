"""The main job on the embedded default, made short: run, nothing to do, one change, a kill, an archive alone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kpod.runner.archive import Archive, list_runs
from kpod.runner.cli import main
from tests.e2e.recipes import ROOT, SHORT, command, executed, run, start, wait_for

ARMS = ["scores[base]", "scores[answer_only]", "scores[standard]"]


def _digests(archive: Archive) -> dict[str, list[str]]:
    return {
        name: [output.digest for output in unit.manifest.outputs.values()]
        for name, unit in archive.units.items()
    }


def test_every_arm_is_scored_with_n_and_an_interval(first: Archive) -> None:
    scores = [first.units[arm].manifest.notes["accuracy"] for arm in ARMS]

    assert [score["n"] for score in scores] == [24, 24, 24]
    assert all(
        0 <= score["low"] <= score["accuracy"] + 1e-9 <= score["high"] <= 1 for score in scores
    )


def test_no_test_question_is_trained_on(first: Archive) -> None:
    unit = first.units["questions"]
    ids = {
        output: {
            json.loads(line)["id"]
            for line in first.output_path(unit, output).open(encoding="utf-8")
        }
        for output in ("train", "validation", "test")
    }

    assert {name: len(found) for name, found in ids.items()} == {
        "train": 64,
        "validation": 8,
        "test": 24,
    }
    assert not ids["train"] & ids["test"]
    assert not ids["train"] & ids["validation"]


def test_the_second_run_executes_nothing_and_gives_the_same_bytes(
    first: Archive, runs: Path
) -> None:
    second = run("quickstart", runs, SHORT)

    assert executed(second) == []
    assert _digests(second) == _digests(first)


def test_a_changed_student_setting_trains_and_scores_that_arm_alone(
    first: Archive, runs: Path
) -> None:
    changed = run("quickstart", runs, [*SHORT, "stages.answer_only.with.max_steps=5"])

    assert executed(changed) == ["answer_only", "scores[answer_only]"]


def test_an_added_arm_is_the_only_one_trained_and_scored(
    first: Archive, runs: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "more.yaml"
    recipe.write_text(
        f"extends: [{ROOT / 'recipes' / 'quickstart.yaml'}]\nkpod: 1\nname: quickstart\nstages:\n"
        "  slower: {like: standard, with: {learning_rate: 7e-4}}\n"
        "  scores: {in: {models: [base, answer_only, standard, slower]}}\n",
        encoding="utf-8",
    )

    assert executed(run(recipe, runs, SHORT)) == ["slower", "scores[slower]"]


def test_a_run_with_nothing_to_do_imports_nothing_heavy(first: Archive, runs: Path) -> None:
    heavy = [
        "torch",
        "transformers",
        "datasets",
        "sklearn",
        "numpy",
        "jsonschema",
        "peft",
        "pandas",
        "rich",
        "jinja2",
    ]
    words = command(runs, SHORT)[3:]
    code = f"import sys; from kpod.runner.cli import main; main({words!r}); print([m for m in {heavy!r} if m in sys.modules])"

    for _ in range(
        2
    ):  # the first of them renders the page of this environment, whose packages are not pytest's
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )

    assert done.stdout.splitlines()[-1] == "[]"


def test_the_archive_alone_runs_again_from_an_empty_store(
    first: Archive, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(
        ["rerun", first.name, "--runs", str(runs), "--store", str(tmp_path / "empty"), "--offline"]
    )

    again = list_runs(runs)[-1]
    assert code == 0
    assert again.facts["rerun_of"] == first.name
    assert executed(again) == list(first.units)
    assert _digests(again) == _digests(first)
    assert "differ" not in capsys.readouterr().out


def test_two_runs_are_told_apart_by_value_origin_output_and_score(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run("quickstart", runs, [*SHORT, "stages.standard.with.learning_rate=0.001"])

    code = main(["diff", first.name, other.name, "--runs", str(runs)])

    told = capsys.readouterr().out
    assert code == 0
    assert "stages.standard.with.learning_rate" in told
    assert "--set" in told
    assert "because config changed: learning_rate 0.004 -> 0.001" in told
    assert "on 24 shared questions" in told


def test_a_student_shows_what_it_trains_on(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for setting in SHORT for word in ("--set", setting)]

    code = main(
        ["inspect-batch", "quickstart", "standard", "--examples", "1", "--runs", str(runs), *words]
    )

    told = capsys.readouterr().out
    assert code == 0
    assert "the prompt is the one that evaluation sends" in told
    assert told.rstrip().splitlines()[-1].split()[2:] == ["'<end>'", "target", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_training_that_is_stopped_ends_with_the_same_bytes(
    number: signal.Signals, tmp_path: Path
) -> None:
    settings = [
        *SHORT,
        "stages.standard.with.max_steps=30",
        "stages.standard.with.checkpoint_every_s=0",
    ]
    undisturbed = run("quickstart", tmp_path / "a", settings)
    process = start([*command(tmp_path / "b", settings), "--json"], tmp_path)
    wait_for(process, "standard", steps=5)
    process.send_signal(number)
    process.communicate()

    resumed = run("quickstart", tmp_path / "b", settings)

    assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 5)
    assert resumed.units["standard"].reason == "was interrupted; continues"
    assert "questions" not in executed(resumed)
    assert _digests(resumed) == _digests(undisturbed)
