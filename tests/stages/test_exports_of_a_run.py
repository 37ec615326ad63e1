"""`kpod export` of a run's students: they answer as evaluated, the code on their cards works, and a wrong one is refused."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import StageError
from kpod.runner.archive import Archive
from kpod.runner.cli import main
from kpod.runner.export import ExportError
from kpod.runner.model_export import export_model
from kpod.stages._lm import exported
from tests.e2e.recipes import BASE, run

RECIPE = """\
kpod: 1
name: tiny
description: "`a` base of 240k weights"
seed: 0
stages:
  questions: {{uses: data.word_problems, with: {{num_train: 48, num_validation: 4, num_test: 12, forms: [one_step]}}}}
  base: {{uses: model.pretrained, with: {{folder: {base}}}}}
  rationales: {{uses: teacher.reference}}
  verified: {{uses: filter.verified}}
  whole:
    uses: student.causal_lm
    in: {{model: base}}
    with: {{method: full, epochs: 2, batch_size: 16, learning_rate: 1.0e-3, precision: fp32}}
  adapted:
    uses: student.causal_lm
    in: {{model: base}}
    with: {{epochs: 2, batch_size: 16, learning_rate: 1.0e-2, precision: fp32, lora: {{rank: 4}}}}
  scores: {{uses: evaluate.accuracy, in: {{models: [base, whole, adapted]}}, with: {{max_new_tokens: 40, precision: fp32}}}}
compare: {{primary: [whole, adapted]}}
"""


def spoken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the code on a card prints, run in its folder."""
    code = (folder / "README.md").read_text("utf-8").partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(folder)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {})
    return out.getvalue().removesuffix("\n")


def first_said(archive: Archive, arm: str) -> str:
    return archive.predictions(arm)[0].text


@pytest.mark.slow
def test_the_exports_of_a_run_answer_as_evaluated_and_their_cards_code_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(BASE, base)
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE.format(base=base), encoding="utf-8")
    archive = run(recipe, tmp_path / "runs")
    name, out = str(archive.folder), tmp_path / "out"
    capsys.readouterr()

    assert main(["export", name, "--as", "adapter", "--to", str(out / "adapter")]) == 0
    assert "answers as evaluated on 8 of 8 prompts" in capsys.readouterr().out
    assert main(["export", f"{archive.name}:whole", "--as", "merged", "--to", str(out / "whole"),
                 "--runs", str(tmp_path / "runs"), "--json"]) == 0  # fmt: skip
    assert json.loads(capsys.readouterr().out) == {
        "run": archive.name, "arm": "whole", "folder": str(out / "whole"), "form": "merged", "dtype": "fp32",
        "num_checked": 8, "num_equal": 8, "check": "answers as evaluated on 8 of 8 prompts",
    }  # fmt: skip
    half = export_model(archive, "merged", to=out / "half", arm=None, dtype="bf16")
    assert half.check.asked == 8

    assert spoken(out / "adapter", monkeypatch) == first_said(archive, "adapted")
    assert spoken(out / "whole", monkeypatch) == first_said(archive, "whole")
    card = (out / "adapter" / "README.md").read_text("utf-8")
    assert str(tmp_path) not in card
    assert "whole (A) against adapted (B)" in card

    with pytest.raises(
        ExportError, match=r"trained whole .*no adapter\nexport it with --as merged"
    ):
        export_model(archive, "adapter", to=out / "none", arm="whole")
    rows = archive.output_path(archive.scored()["adapted"], "predictions")
    rows.write_text(rows.read_text("utf-8").replace('"text":"', '"text":"never '), "utf-8")
    with pytest.raises(ExportError, match="answers as evaluated on 0 of 8 prompts; first apart"):
        export_model(archive, "adapter", to=out / "wrong", arm=None)
    assert (
        export_model(archive, "adapter", to=out / "wrong", arm=None, checks=False).check.asked == 0
    )
    rows.write_text(
        rows.read_text("utf-8").replace('"text":"never ', f'"text":"{"9 " * 40}'), "utf-8"
    )
    with pytest.raises(
        ExportError,
        match=r"would choose .* and rounding does not explain that\nneeded: 95% of them",
    ):
        export_model(archive, "merged", to=out / "other", arm=None, dtype="bf16")
    (base / "model.safetensors").unlink()
    with pytest.raises(StageError, match="--force base"):
        export_model(archive, "merged", to=out / "gone", arm=None, checks=False)
    assert sorted(path.name for path in out.iterdir()) == ["adapter", "half", "whole", "wrong"]


@pytest.mark.slow
def test_what_was_evaluated_in_half_precision_is_asked_in_it_where_its_weights_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In fp32 a student that is sure of little says other words: SmolLM2 after two steps was refused for that."""
    recipe = tmp_path / "tiny.yaml"
    text = RECIPE.format(base=BASE).replace("precision: fp32", "precision: bf16")
    recipe.write_text(text, encoding="utf-8")
    archive = run(recipe, tmp_path / "runs")
    asked_in = []
    plain_model = exported._plain_model

    def noted(*words: Any) -> Any:
        model = plain_model(*words)
        asked_in.append(str(next(model.parameters()).dtype))
        return model

    monkeypatch.setattr(exported, "_plain_model", noted)
    adapter = export_model(archive, "adapter", to=tmp_path / "adapter", arm=None)
    export_model(archive, "merged", to=tmp_path / "whole", arm="whole", dtype="fp32")
    export_model(archive, "merged", to=tmp_path / "merged", arm=None, dtype="fp32")

    assert asked_in == ["torch.bfloat16", "torch.bfloat16", "torch.float32"]
    assert adapter.check.asked == 8
