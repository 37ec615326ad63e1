"""The recipe with a teacher behind an endpoint, run whole: a server of the tests teaches a tiny T5."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner import Curriculum
from kpod.runner.errors import BudgetReached
from tests.e2e import stand_ins
from tests.e2e.recipes import ROOT, executed, run
from tests.faults.endpoint import Endpoint

pytestmark = pytest.mark.slow

ARMS = ("student_lm", "standard", "standard_tokens", "kpod")


def test_gsm8k_gpt_flan_t5_runs_against_a_server_and_never_asks_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    questions = stand_ins.gsm8k(tmp_path / "gsm8k")
    student = stand_ins.model(tmp_path, "t5")
    recipe = tmp_path / "endpoint.yaml"
    # The server adds all numbers of a question, which is seldom right: the solutions of the set stand beside its rationales.
    recipe.write_text(
        f"extends: [{ROOT / 'recipes' / 'gsm8k_gpt_flan_t5.yaml'}]\nkpod: 1\nname: endpoint\nstages:\n"
        "  reference: {uses: teacher.reference}\n"
        "  verified: {in: {rationales: rationales}}\n"
        "  kept: {in: {rationales: [verified, hinted, reference]}}\n",
        encoding="utf-8",
    )
    with Endpoint(models=["gpt-4o-mini"], faults={"429": 0.1, "500": 0.05}) as endpoint:
        settings = (
            f"stages.questions.with.path={questions}", f"stages.rationales.with.urls=[{endpoint.url}]",
            "stages.rationales.with.first_wait_s=0.01", "stages.rationales.with.samples=2",
            f"stages.student_lm.with={{folder: {student}}}", "stages.weights.with.epochs=1",
            "stages.standard.with.epochs=4", "stages.standard.with.lora={rank: 4, alpha: 8, dropout: 0.0}",
            "stages.scores.with.max_new_tokens=8",
        )  # fmt: skip

        archive = run(recipe, tmp_path / "runs", settings)
        asked = endpoint.stats()["requests"]
        again = run(recipe, tmp_path / "runs", settings)

        assert endpoint.stats()["requests"] == asked
    assert executed(again) == []
    num_train = archive.units["questions"].manifest.outputs["train"].num_records
    assert num_train is not None
    assert num_train >= 32
    assert archive.units["rationales"].manifest.notes["usd"] > 0
    hinted = archive.units["hinted"].manifest
    assert hinted.outputs["rationales"].num_records
    assert archive.units["kept"].manifest.notes["questions_solved"] == num_train
    scored = {arm: archive.units[f"scores[{arm}]"].manifest.notes["accuracy"]["n"] for arm in ARMS}
    assert scored == dict.fromkeys(ARMS, stand_ins.NUM_TEST)
    rows = list(archive.read(archive.units["curriculum"], "curriculum", Curriculum))
    assert any(row.given[0] > row.given[-1] for row in rows)
    said = (archive.folder / "report.html").read_text(encoding="utf-8")
    assert "hinted" in said
    assert "not-a-real-key" not in said


def test_a_budget_stops_the_recipe_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kpod.runner.session import RunOptions, Session

    monkeypatch.setenv("OPENAI_API_KEY", "not-a-real-key")
    questions = stand_ins.gsm8k(tmp_path / "gsm8k")
    path = ROOT / "recipes" / "gsm8k_gpt_flan_t5.yaml"
    with Endpoint(models=["gpt-4o-mini"]) as endpoint:
        settings = (
            f"stages.questions.with.path={questions}", f"stages.rationales.with.urls=[{endpoint.url}]",
            "stages.rationales.with.samples=1", "stages.rationales.with.temperature=0", "stages.hinted.with.samples=1", "stages.rationales.with.concurrency=1",
        )  # fmt: skip

        def options(budget_usd: float | None) -> RunOptions:
            return RunOptions(runs=tmp_path / "runs", settings=settings, offline=True, until="rationales", budget_usd=budget_usd)  # fmt: skip

        with pytest.raises(BudgetReached, match="the same command continues"):
            Session(path, options(0.0005)).run()
        before = endpoint.stats()["requests"]
        archive = Session(path, options(None)).run()
        after = endpoint.stats()["requests"]

    num_train = archive.units["questions"].manifest.outputs["train"].num_records
    assert 0 < before < after
    assert after == num_train
