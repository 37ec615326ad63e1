"""Every command on a real archive: what it prints, and what it returns to the shell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kpod.runner.archive import Archive
from kpod.runner.cli import main
from kpod.runner.errors import KpodError
from kpod.runner.matrix import parse_seeds
from tests.e2e.recipes import ROOT, SHORT

SET = [word for setting in SHORT for word in ("--set", setting)]


def _say(capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    capsys.readouterr()
    assert main(list(words)) == code
    return capsys.readouterr().out


def test_runs_lists_arms_with_their_scores(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _say(capsys, 0, "runs", "--runs", str(runs))

    assert first.name in told
    assert "standard 0." in told
    assert json.loads(_say(capsys, 0, "runs", "--json", "--runs", str(runs)))[0]["is_complete"]


def test_an_empty_folder_has_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no runs in" in _say(capsys, 0, "runs", "--runs", str(tmp_path))


def test_explain_tells_the_preimage_and_what_changed_since(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = str(ROOT / "recipes" / "quickstart.yaml"), ["--runs", str(runs)]

    planned = _say(
        capsys,
        0,
        "explain",
        recipe,
        "standard",
        *SET,
        "--set",
        "stages.standard.with.learning_rate=2e-3",  # nobody else's
        *folder,
    )
    archived = _say(capsys, 0, "explain", first.name, "scores[standard]", *folder)

    assert re.search(r"since the last run: config changed: learning_rate \S+ -> 0\.002", planned)
    assert "library torch = " in planned
    assert f"by {first.name}" in archived
    assert "input models = " in archived
    with pytest.raises(AssertionError):
        _say(capsys, 0, "explain", first.name, "nothing", *folder)


def test_plan_says_what_would_run_and_returns_10(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["quickstart", *SET, "--runs", str(runs)]

    assert "15 of 15 from the store, 0 to run" in _say(capsys, 0, "plan", *words)
    rows = json.loads(_say(capsys, 10, "plan", *words, "--force", "standard", "--json"))
    assert [row["status"] for row in rows if row["unit"] == "standard"] == ["run"]


def test_show_gives_the_run_a_value_and_a_journey(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = json.loads(
        first.output_path(first.units["questions"], "test")
        .read_text(encoding="utf-8")
        .splitlines()[0]
    )

    run = _say(capsys, 0, "show", first.name, "--runs", str(runs))
    value = _say(capsys, 0, "show", first.name, "standard.with.learning_rate", "--runs", str(runs))
    journey = _say(capsys, 0, "show", first.name, f"q_{question['id'][:8]}", "--runs", str(runs))

    assert "accuracy " in run
    assert "quickstart.yaml:" in value
    assert "scores[standard].predictions" in journey
    assert main(["show", first.name, "standard.with.learning", "--runs", str(runs)]) == 2
    assert "did you mean 'standard.with.learning_rate'?" in capsys.readouterr().err


def test_report_is_rendered_again(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _say(capsys, 0, "report", first.name, "--runs", str(runs))

    assert Path(told.strip()).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_store_is_listed_verified_and_kept(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "student.causal_lm" in _say(capsys, 0, "cache", "ls", "--runs", str(runs))
    assert "0 were set aside" in _say(capsys, 0, "cache", "verify", "--runs", str(runs))
    assert " 0 bytes removed" in _say(capsys, 0, "cache", "gc", "--yes", "--runs", str(runs))


def test_two_arms_are_compared_in_words_and_in_json(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = [f"{first.name}:answer_only", f"{first.name}:standard", "--runs", str(runs)]

    assert "answer_only / standard" in _say(capsys, 0, "diff", *arms)
    (score,) = json.loads(_say(capsys, 0, "diff", *arms, "--json"))["scores"]
    assert score["num_shared"] == 24
    assert main(["diff", f"{first.name}:nobody", first.name, "--runs", str(runs)]) == 2
    assert "has no evaluated arm 'nobody'" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_makes_shared_stages_once_and_ends_in_a_table(
    first: Archive, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = _say(capsys, 0, "sweep", "quickstart", "seed=0,1", *SET, "--runs", str(runs))

    assert len(re.findall(r"data\.word_problems +hit", told)) == 1
    assert "seed 0 was done before: " in told
    lines = told.splitlines()
    end = lines.index("accuracy, n = 24 questions, 2 seeds")
    assert [line.split()[0] for line in lines[end - 5 : end]] == [
        "seed",
        "0",
        "1",
        "mean",
        "sd",
    ]


@pytest.mark.parametrize(
    ("text", "seeds"), [("seed=0..2", [0, 1, 2]), ("seed=3,1,3", [3, 1]), ("seed=7", [7])]
)
def test_seeds_are_a_range_or_a_list(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["seed=3..1", "seeds=1", "seed=a", "seed="])
def test_anything_else_is_no_seeds(text: str) -> None:
    with pytest.raises(KpodError, match=r"allowed: seed=0\.\.4 or seed=0,3,7"):
        parse_seeds(text)


def test_stages_tells_inputs_outputs_and_settings_with_their_bounds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = _say(capsys, 0, "stages", "student.causal_lm")

    assert re.search(r"input +rationales +Rationale", told)
    assert re.search(r"output +student +Model", told)
    assert "lora.rank" in told


def test_schemas_are_what_the_classes_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--check"]) == 0
    assert main(["schema", "--write"]) == 0
    assert capsys.readouterr().out == ""


def test_doctor_names_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = _say(capsys, 0, "doctor", "--runs", str(tmp_path / "runs"))

    assert "everything is in place" in told
    assert "hard links work" in told


def test_validate_takes_several_recipes_and_tells_all_mistakes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(
        "kpod: 1\nname: bad\nstages: {a: {uses: data.gsm8}}\n", encoding="utf-8"
    )

    assert main(["validate", "quickstart", str(tmp_path / "bad.yaml")]) == 2

    told = capsys.readouterr()
    assert "quickstart: 12 stages, valid" in told.out
    assert "did you mean 'data.gsm8k'?" in told.err
