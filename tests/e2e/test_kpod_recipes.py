"""The recipes at the paper's settings, planned and run for real, with small local models and data in place of the big ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from kpod.runner import Curriculum
from kpod.runner.archive import Archive
from kpod.runner.session import RunOptions, Session
from tests.e2e import stand_ins
from tests.e2e.recipes import ROOT, run

pytestmark = pytest.mark.slow

STUDENTS = {"llama7b": "llama", "flan_t5_xl": "t5", "flan_t5_large": "t5"}
PAPER = [f"kpod_{data}_{student}" for data in stand_ins.DATA for student in STUDENTS]
ARMS = ("student_lm", "standard", "standard_tokens", "kpod", "no_sig", "no_sig_dif", "no_prog", "no_div")  # fmt: skip
TRAINED = ARMS[1:]
NUM_EPOCHS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, rationales and word vectors, made once; and the store that the recipes share."""
    folder = tmp_path_factory.mktemp("paper")
    stand_ins.rationales(folder)
    stand_ins.word_vectors(folder)
    for architecture in ("llama", "t5"):
        stand_ins.model(folder, architecture)  # type: ignore[arg-type]
    return folder


def settings(name: str, folder: Path) -> Sequence[str]:
    """The recipe made small: nothing of the method is changed but sizes."""
    data = next(key for key in stand_ins.DATA if key in name)
    student = next(key for key in STUDENTS if name.endswith(key))
    place = folder / data
    if not place.exists():
        place.mkdir()
        stand_ins.DATA[data](place)
    source = {"asdiv": place / "ASDiv.xml", "svamp": place / "SVAMP.json"}.get(data, place)
    is_list = data in ("asdiv", "svamp")
    held = (f"stages.questions.with.num_validation={stand_ins.NUM_VALIDATION}", f"stages.questions.with.num_test={stand_ins.NUM_TEST}")  # fmt: skip
    return (
        f"stages.questions.with.path={source}", *(held if is_list else ()),
        f"stages.rationales.with.path={folder / 'rationales.jsonl'}",
        f"stages.clusters.with.vectors_file={folder / 'glove.txt'}",
        f"stages.student_lm.with={{folder: {folder / STUDENTS[student] / 'outputs' / 'model'}}}",
        f"stages.predictor.with={{folder: {folder / 't5' / 'outputs' / 'model'}}}",
        "stages.weights.with.epochs=1", "stages.weights.with.prefixes=4",
        f"stages.standard.with.epochs={NUM_EPOCHS}", "stages.standard.with.batch_size=20",
        "stages.standard.with.lora.rank=4", "stages.standard.with.lora.alpha=8", "stages.scores.with.max_new_tokens=8",
    )  # fmt: skip


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_of_the_paper_is_planned(name: str, folder: Path) -> None:
    path = ROOT / "recipes" / f"{name}.yaml"
    options = RunOptions(runs=folder / "planned", settings=settings(name, folder), offline=True)
    planned = Session(path, options).planner.plan()

    assert {f"scores[{arm}]" for arm in ARMS} <= {each.unit.name for each in planned}


@pytest.mark.parametrize("name", PAPER)
def test_a_recipe_of_the_paper_runs_with_small_models(name: str, folder: Path) -> None:
    archive = run(name, folder / "runs", settings(name, folder))

    _check(archive, num_test=stand_ins.NUM_TEST)


def _check(archive: Archive, *, num_test: int) -> None:
    """Every arm was evaluated, the curriculum moved, and no two arms that differ gave the same student."""
    assert archive.units["verified"].manifest.notes["kept"] >= 32
    scored = {arm: archive.units[f"scores[{arm}]"].manifest.notes["accuracy"]["n"] for arm in ARMS}
    assert scored == dict.fromkeys(ARMS, num_test)
    rows = list(archive.read(archive.units["curriculum"], "curriculum", Curriculum))
    assert all(len(row.given) == NUM_EPOCHS for row in rows)
    assert any(row.given[0] > row.given[-1] for row in rows)
    assert all(row.given[NUM_EPOCHS // 2] == 0 for row in rows)
    students = {archive.units[arm].manifest.outputs["student"].digest for arm in TRAINED}
    # of 40 rationales, no_div and no_sig_dif may draw the sets that kpod draws
    assert len(students) >= len(TRAINED) - 2
