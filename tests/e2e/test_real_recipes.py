"""Every shipped recipe run for real with small models in place of the big ones, on real data where it is here."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner import Curriculum
from kpod.runner.archive import Archive
from kpod.runner.session import RunOptions, Session
from tests.e2e.recipes import BASE, ROOT, executed, real_data, run

pytestmark = pytest.mark.slow


def curriculum_moves(archive: Archive, unit: str = "curriculum") -> bool:
    """Whether some rationale is given less at the end than at the first epoch, and none is given anything at the end."""
    rows = list(archive.read(archive.units[unit], "curriculum", Curriculum))
    return any(row.given[0] for row in rows) and not any(row.given[-1] for row in rows)


def scored(archive: Archive) -> dict[str, int]:
    """How many questions each arm was asked."""
    return {
        name.removeprefix("scores[").removesuffix("]"): unit.manifest.notes["accuracy"]["n"]
        for name, unit in archive.units.items()
        if name.startswith("scores[")
    }


def test_gsm8k_qwen_runs_on_real_questions_with_local_models(tmp_path: Path) -> None:
    data = real_data("gsm8k")
    recipe = tmp_path / "gsm8k_local.yaml"
    # A stand-in teacher is seldom right: beside its rationales the filter gets the solutions of the set,
    # of which it keeps those that the base, which reads 256 words, has room for.
    recipe.write_text(
        f"extends: [{ROOT / 'recipes' / 'gsm8k_qwen.yaml'}]\nkpod: 1\nname: gsm8k_local\nstages:\n"
        "  reference: {uses: teacher.reference}\n"
        "  verified: {in: {rationales: [rationales, reference]}, with: {max_chars: 250}}\n",
        encoding="utf-8",
    )
    models = [f"stages.{stage}.with={{folder: {BASE}}}" for stage in ("teacher_lm", "student_lm")]
    settings = [
        *models, f"stages.questions.with.path={data / 'gsm8k'}", "stages.questions.with.limit={train: 80, test: 32}",
        "stages.rationales.with.max_new_tokens=24", "stages.rationales.with.samples=1", "stages.weights.with.epochs=1",
        "stages.standard.with.epochs=3", "stages.standard.with.lora.rank=4",
        "stages.standard.with.lora.alpha=8", "stages.scores.with.max_new_tokens=24",
    ]  # fmt: skip
    archive = run(recipe, tmp_path / "runs", settings)

    written = archive.units["rationales"].manifest.outputs["rationales"].num_records
    assert written is not None
    assert written >= 8
    assert archive.units["verified"].manifest.notes["kept"] >= 32
    arms = ("student_lm", "answer_only", "standard", "standard_tokens", "kpod")
    assert scored(archive) == dict.fromkeys(arms, 32)
    assert len(archive.units["kpod"].manifest.notes["losses"]) == 3
    assert curriculum_moves(archive)


def test_svamp_smollm2_kpod_runs_on_real_rationales_with_a_small_model(tmp_path: Path) -> None:
    data = real_data("svamp_gpt35") / "svamp_gpt35"
    settings = [
        f"stages.questions.with.train={data / 'train.json'}", f"stages.questions.with.test={data / 'test.json'}",
        f"stages.rationales.with.path={data / 'train.json'}", f"stages.base.with={{folder: {BASE}}}",
        "stages.questions.with.limit={train: 64, test: 32}", "stages.verified.with.max_chars=300",
        "stages.scores.with.base_prompt.format=plain", "stages.scores.with.max_new_tokens=24",
        "stages.weights.with.epochs=1", "stages.standard.with.epochs=4",
        "stages.standard.with.lora={rank: 4, alpha: 8, dropout: 0.0}",
    ]  # fmt: skip

    archive = run("svamp_smollm2_kpod", tmp_path / "runs", settings)

    assert archive.units["verified"].manifest.notes["kept"] >= 32
    assert scored(archive) == dict.fromkeys(("base", "standard", "standard_tokens", "kpod"), 32)
    assert curriculum_moves(archive)


def test_statement_29_a_recipe_of_the_paper_takes_the_published_split_of_svamp(
    tmp_path: Path,
) -> None:
    """As _kpod_paper.yaml says: data.table in place of data.svamp, and the columns of the file at hand."""
    data = real_data("svamp_gpt35") / "svamp_gpt35"
    recipe = tmp_path / "published.yaml"
    recipe.write_text(
        f"extends: [{ROOT / 'recipes' / 'kpod_svamp_llama7b.yaml'}]\nkpod: 1\nname: published\nstages:\n"
        "  questions:\n    uses: data.table\n    with: {path: null, num_validation: null, num_test: null, validation_frac: 0,"
        f" train: {data / 'train.json'}, test: {data / 'test.json'}, columns: {{question: [input], answer: answer}}}}\n"
        f"  rationales: {{with: {{path: {data / 'train.json'}, columns: {{question: input, rationale: chain}}}}}}\n",
        encoding="utf-8",
    )
    options = RunOptions(runs=tmp_path / "runs", offline=True, until="verified")
    archive = Session(recipe, options).run()

    assert archive.units["questions"].manifest.notes["questions"] == {
        "train": 651, "validation": 0, "test": 150,
    }  # fmt: skip
    assert archive.units["rationales"].manifest.notes["rationales"] == 651
    assert archive.units["verified"].manifest.notes["kept"] >= 645


@pytest.mark.parametrize("name", ["quickstart_ablation", "quickstart_harder"])
def test_a_variant_of_the_quickstart_runs_with_all_its_arms(name: str, tmp_path: Path) -> None:
    settings = [
        "stages.questions.with.num_train=64", "stages.questions.with.num_test=32", "stages.questions.with.num_validation=8",
        "stages.weights.with.epochs=1", "stages.standard.with.epochs=4", "stages.scores.with.max_new_tokens=24",
    ]  # fmt: skip
    archive = run(name, tmp_path / "runs", settings)
    students = [unit for unit in archive.units.values() if unit.uses.startswith("student.")]

    arms = {unit.name for unit in students}
    assert scored(archive) == dict.fromkeys({"base", *arms}, 32)
    assert len(arms) == {"quickstart_ablation": 12, "quickstart_harder": 3}[name]
    # no_sig_dif may draw the sets that kpod draws from 64 rationales
    digests = {unit.manifest.outputs["student"].digest for unit in students}
    assert len(digests) >= len(arms) - 1
    assert curriculum_moves(archive)


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
    assert scored(archive) == {"base": 150, "standard": 150}
    assert executed(run("svamp_smollm2", tmp_path / "runs", settings)) == []


def test_the_recipe_of_the_shipped_base_trains_and_scores(tmp_path: Path) -> None:
    settings = [
        "stages.questions.with.num_train=64", "stages.questions.with.num_test=32", "stages.questions.with.num_validation=8",
        "stages.base.with.epochs=3", "stages.scores.with.max_new_tokens=16",
    ]  # fmt: skip

    archive = run("quickstart_base", tmp_path / "runs", settings)

    folder = archive.output_path(archive.units["base"], "student")
    assert {path.name for path in BASE.iterdir()} <= {path.name for path in folder.iterdir()}
