"""Every shipped recipe run for real with small models in place of the big ones, on real data where it is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.recipes import BASE, ROOT, executed, real_data, run

pytestmark = pytest.mark.slow


def test_gsm8k_qwen_runs_on_real_questions_with_local_models(tmp_path: Path) -> None:
    data = real_data("gsm8k")
    recipe = tmp_path / "gsm8k_local.yaml"
    # A stand-in teacher is seldom right: its rationales are made, and the students learn from the set's own solutions.
    recipe.write_text(
        f"extends: [{ROOT / 'recipes' / 'gsm8k_qwen.yaml'}]\nkpod: 1\nname: gsm8k_local\nstages:\n"
        "  reference: {uses: teacher.reference}\n  verified: {in: {rationales: reference}}\n"
        "  standard: {in: {rationales: verified}, with: {on_too_long: drop}}\n",
        encoding="utf-8",
    )
    models = [f"stages.{stage}.with={{folder: {BASE}}}" for stage in ("teacher_lm", "student_lm")]
    settings = [
        *models, f"stages.questions.with.path={data / 'gsm8k'}", "stages.questions.with.limit={train: 40, test: 32}",
        "stages.rationales.with.max_new_tokens=24", "stages.standard.with.epochs=3", "stages.standard.with.lora.rank=4",
        "stages.standard.with.lora.alpha=8", "stages.scores.with.max_new_tokens=24",
    ]  # fmt: skip
    archive = run(recipe, tmp_path / "runs", settings)

    written = archive.units["rationales"].manifest.outputs["rationales"].num_records
    assert written is not None
    assert written >= 8
    assert archive.units["verified"].manifest.notes["kept"] >= 32
    assert [
        archive.units[f"scores[{arm}]"].manifest.notes["accuracy"]["n"]
        for arm in ("student_lm", "answer_only", "standard")
    ] == [32] * 3
    assert len(archive.units["standard"].manifest.notes["losses"]) == 3


def test_svamp_smollm2_runs_on_real_rationales_with_a_small_model(tmp_path: Path) -> None:
    data = real_data("svamp_gpt35")
    settings = [
        f"stages.questions.with.train={data / 'svamp_gpt35/train.json'}", f"stages.questions.with.test={data / 'svamp_gpt35/test.json'}",
        f"stages.rationales.with.path={data / 'svamp_gpt35/train.json'}", f"stages.base.with={{folder: {BASE}}}",
        "stages.questions.with.limit={train: 64}", "stages.rationales.with.unknown_questions=count",
        "stages.scores.with.base_prompt.format=plain", "stages.scores.with.max_new_tokens=24",
        "stages.standard.with.lora={rank: 4, alpha: 8, dropout: 0.0}", "stages.standard.with.on_too_long=drop",
    ]  # fmt: skip

    archive = run("svamp_smollm2", tmp_path / "runs", settings)

    notes = archive.units["verified"].manifest.notes
    assert notes["kept"] >= 32
    assert archive.units["scores[standard]"].manifest.notes["accuracy"]["n"] == 150
    assert executed(run("svamp_smollm2", tmp_path / "runs", settings)) == []


def test_the_recipe_of_the_shipped_base_trains_and_scores(tmp_path: Path) -> None:
    settings = [
        "stages.questions.with.num_train=64", "stages.questions.with.num_test=32", "stages.questions.with.num_validation=8",
        "stages.base.with.epochs=3", "stages.scores.with.max_new_tokens=16",
    ]  # fmt: skip

    archive = run("quickstart_base", tmp_path / "runs", settings)

    folder = archive.output_path(archive.units["base"], "student")
    assert {path.name for path in BASE.iterdir()} <= {path.name for path in folder.iterdir()}
