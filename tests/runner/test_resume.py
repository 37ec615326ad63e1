"""Which run `kpod resume` takes for one that still waits, where this machine settles `auto` settings on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner.cli import main
from tests.runner.test_contamination import School


def failed_then_done(folder: Path, *settings: str) -> list[str]:
    """A run that failed, and one after it that came to its end under these settings; the words that name their folder."""
    School(folder=folder).session().store.close()
    said, recipe = folder / "said.jsonl", str(folder / "recipe.yaml")
    right = said.read_text(encoding="utf-8")
    words = ["--runs", str(folder / "runs")]
    said.write_text('{"question": "Who?", "rationale": "It is 1."}\n', encoding="utf-8")
    assert main(["run", recipe, *words]) == 3
    said.write_text(right, encoding="utf-8")
    assert main(["run", recipe, *settings, *words]) == 0
    return words


def test_a_run_that_failed_before_auto_was_settled_is_done_once_its_recipe_came_to_an_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = failed_then_done(tmp_path)
    capsys.readouterr()

    assert main(["resume", *words]) == 2
    assert "came to its end, or one after it with the same recipe did" in capsys.readouterr().err


def test_a_run_of_another_setting_still_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = failed_then_done(tmp_path, "--set", "stages.scores.with.max_new_tokens=2")
    capsys.readouterr()

    assert main(["resume", *words]) == 0
    assert "failed: stage rationales" in capsys.readouterr().out
