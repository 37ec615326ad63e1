"""A sweep over settings: its cells, what they share, what it says of them, and the best, chosen by validation data alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from kpod_tutor import lessons

from kpod.runner.archive import find_run, list_runs
from kpod.runner.cli import main
from kpod.runner.commands import _seed_runs
from kpod.runner.errors import KpodError
from tests.chain import Chain, recipe

EPOCHS = "stages.long.with.epochs"


def school(**stages: Any) -> dict[str, Any]:
    """Two pupils and their exam; `long` is what is swept."""
    found: dict[str, Any] = {
        "questions": {"uses": "tutor.questions"},
        "short": {"uses": "tutor.pupil", "with": {"epochs": 2}},
        "long": {"like": "short", "with": {"epochs": 9}},
        "scores": {"uses": "tutor.exam", "in": {"models": ["short", "long"]}},
        **stages,
    }
    return {**recipe("school", **found), "compare": {"primary": ["short", "long"]}}


def validated() -> dict[str, Any]:
    """The school with an exam on validation questions."""
    return school(tuning={"like": "scores", "in": {"questions": "questions.validation"}})


def sweep(chain: Chain, *words: str, plain: dict[str, Any] | None = None) -> int:
    """`kpod sweep` over the school."""
    path = chain.write(plain or school())
    return main(["sweep", str(path), *words, "--runs", str(chain.runs)])


def swept(chain: Chain) -> dict[str, Any]:
    """What the last sweep wrote."""
    folder = sorted(chain.runs.glob("*-sweep*"))[-1]
    facts: dict[str, Any] = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    return facts


@pytest.fixture(name="children")
def children_fixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that a sweep starts find the plug-ins."""
    plugin = str(Path(lessons.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([plugin, os.environ.get("PYTHONPATH", "")]))


def test_a_sweep_of_20_values_of_one_student_makes_shared_stages_once(chain: Chain) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=21..40", "--json") == 0

    assert {name: chain.executions().count(name) for name in ("questions", "pupil", "exam")} == {
        "questions": 1,
        "pupil": 21,
        "exam": 21,
    }


def test_words_may_stand_before_and_behind_the_option(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "seed=0,1", "--matrix", f"{EPOCHS}=4,5") == 0
    before = capsys.readouterr().out
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,5", "seed=0,1") == 0
    behind = capsys.readouterr().out

    assert "epochs=5 seed 1 done in" in before
    assert "; 4 of 4 runs done" in before
    assert behind.count("was done before: ") == 4
    assert len(list_runs(chain.runs)) == 4


def test_the_table_has_a_row_a_combination_with_mean_spread_and_interval_over_seeds(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,10", "seed=0..4") == 0
    told = capsys.readouterr().out
    facts = swept(chain)

    rows = [line.split() for line in told.splitlines() if line.startswith("epochs=") and "(sd" in line]  # fmt: skip
    assert [row[:3] for row in rows] == [
        ["epochs=4", f"{facts['matrix']['rows'][0]['figures'][0]['mean']:.3f}", "(sd"],
        ["epochs=10", f"{facts['matrix']['rows'][1]['figures'][0]['mean']:.3f}", "(sd"],
    ]
    assert "accuracy on 20 test questions: mean (sd) over seeds [95 % t interval] n = seeds" in told
    assert facts["matrix"]["columns"] == ["short", "long"]
    assert [figure["n"] for row in facts["matrix"]["rows"] for figure in row["figures"]] == [5] * 4


def test_the_primary_comparison_is_paired_by_seed_and_corrected_over_the_rows(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=3,4,10", "seed=0..4") == 0

    assert "primary comparison, paired by seed (p values Holm-corrected over 3)" in (
        capsys.readouterr().out
    )
    results = [row["methods"][0]["result"] for row in swept(chain)["matrix"]["rows"]]
    assert [result["family"] for result in results] == [3, 3, 3]
    assert [round(result["mean"], 6) for result in results] == [0.05, 0.1, 0.4]


def test_one_seed_makes_no_claim(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,10") == 0
    told = capsys.readouterr().out

    assert "0.700 n = 1" in told or "0.750 n = 1" in told or "0.800 n = 1" in told
    assert told.count("1 seed: no claim about long against short, 5 seeds needed") == 2


def test_every_wrong_cell_is_told_before_anything_runs(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,0,-2,word") == 2
    told = capsys.readouterr().err

    for label in ("epochs=0", "epochs=-2", "epochs=word"):
        assert f"--set ({label})" in told
    assert "3 errors; nothing was run" in told
    assert chain.executions() == []
    assert list_runs(chain.runs) == []


def test_a_setting_that_no_stage_has_is_told_once(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", "stages.long.with.epoch=4,5") == 2
    told = capsys.readouterr().err

    assert "did you mean 'epochs'?" in told
    assert told.count("unknown setting 'epoch'") == 1


def test_combinations_that_are_one_recipe_are_refused(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["stages.long.with={epochs: 4},{epochs: 5}", f"{EPOCHS}=6,7"]

    assert sweep(chain, "--matrix", *words) == 2
    assert "are one and the same recipe" in capsys.readouterr().err


def test_a_cell_that_fails_does_not_stop_the_others_and_is_listed_at_the_end(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,13,5", "seed=0,1") == 3
    told = capsys.readouterr()

    assert "2 of 6 runs failed: epochs=13 seed 0; epochs=13 seed 1" in told.err
    assert "epochs=13 seed 0: stage long (tutor.pupil)\n  13 epochs bring bad luck" in told.err
    assert "4 of 6 runs done, 2 failed" in told.out
    assert [row["num_failed"] for row in swept(chain)["matrix"]["rows"]] == [0, 2, 0]


@pytest.mark.usefixtures("children")
def test_processes_make_what_all_share_once_and_name_their_lines(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,5,13", "--jobs", "3") == 3
    told = capsys.readouterr()

    assert chain.executions().count("questions") == 1
    assert chain.executions().count("pupil") == 4
    assert "[epochs=5 seed 0]   long " in told.out
    assert "1 of 3 runs failed: epochs=13 seed 0" in told.err
    (maker,) = [line for line in told.out.splitlines() if "tutor.questions  run " in line]
    assert maker.startswith("[epochs=4 seed 0]")


def test_a_stopped_sweep_exits_5_and_the_same_command_runs_what_is_missing(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, calls = lessons.Pupil.run, []

    def run(self: lessons.Pupil, ctx: Any) -> None:
        calls.append(ctx)
        if len(calls) == 3:
            os.kill(os.getpid(), 2)
        real(self, ctx)

    with monkeypatch.context() as patch:
        patch.setattr(lessons.Pupil, "run", run)
        assert sweep(chain, "--matrix", f"{EPOCHS}=4,5,6") == 5
    before = chain.executions()
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,5,6") == 0

    assert sorted([*before, *chain.executions()[len(before) :]]) == sorted(
        ["questions", *["pupil"] * 4, *["exam"] * 4]
    )
    assert "epochs=4 seed 0 was done before: " in capsys.readouterr().out


def test_the_facts_alone_are_told_as_json(chain: Chain, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,5", "--json") == 0

    assert json.loads(capsys.readouterr().out) == swept(chain)


def test_the_best_is_chosen_by_validation_scores_against_the_test_scores(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--matrix", f"{EPOCHS}=3..6", "seed=0..4", "--best", "accuracy"]

    assert sweep(chain, *words, plain=validated()) == 0
    told = capsys.readouterr().out
    facts = swept(chain)

    assert "best for long by validation accuracy: epochs=4" in told
    assert facts["matrix"]["data"] == "validation"
    of_short, of_long = facts["best"]["choices"]
    assert (of_long["label"], of_long["equals"]) == ("epochs=4", [])
    assert of_short["equals"] == ["epochs=4", "epochs=5", "epochs=6"]
    assert list(of_long["test"]) == ["scores[long]"]
    assert told.count("test accuracy") == 2
    assert "primary comparison on test questions, each arm at its own best" in told


def test_one_arm_may_be_named(chain: Chain) -> None:
    words = ["--matrix", f"{EPOCHS}=3..6", "--best", "accuracy:long"]

    assert sweep(chain, *words, plain=validated()) == 0
    assert [choice["arm"] for choice in swept(chain)["best"]["choices"]] == ["long"]


def test_what_students_noted_of_validation_can_choose_too(chain: Chain) -> None:
    plain = school(
        long={"uses": "tutor.pupil", "in": {"validation": "questions.validation"}, "with": {"validate": {"metric": "loss"}}}
    )  # fmt: skip

    assert sweep(chain, "--matrix", f"{EPOCHS}=4..9", "--best", "loss", plain=plain) == 0
    (choice,) = swept(chain)["best"]["choices"]
    assert (choice["arm"], choice["label"], choice["validation"]["mean"]) == ("long", "epochs=6", 1.0)  # fmt: skip


@pytest.mark.parametrize(
    ("best", "told"),
    [
        ("accuracy", "recipe.yaml has no validation accuracy, and test scores choose nothing\nadd a stage: validation_scores: {like: scores, in: {questions: questions.validation}}"),
        ("loss", "let students judge themselves: in: {validation: questions.validation, validation_rationales: …}, with: {validate: {metric: loss}}"),
        ("acuracy", "--best: got 'acuracy'\nallowed: accuracy, loss, accuracy:ARM, loss:ARM\ndid you mean 'accuracy'?"),
    ],
)  # fmt: skip
def test_without_validation_data_nothing_is_chosen_and_nothing_runs(
    best: str, told: str, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "--matrix", f"{EPOCHS}=4,5", "--best", best) == 2

    assert told in capsys.readouterr().err
    assert chain.executions() == []


def test_an_arm_without_validation_scores_and_a_best_seed_are_refused(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--matrix", f"{EPOCHS}=4,5", "--best", "accuracy:lomg"]

    assert sweep(chain, *words, plain=validated()) == 2
    assert "allowed: short, long\ndid you mean 'long'?" in capsys.readouterr().err
    assert sweep(chain, "seed=0..2", "--best", "accuracy", plain=validated()) == 2
    assert "the best seed is no finding" in capsys.readouterr().err


def test_combinations_judged_on_different_questions_have_no_best(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = school(
        long={"uses": "tutor.pupil", "in": {"validation": "questions.validation"}, "with": {"validate": {"metric": "loss"}}}
    )  # fmt: skip

    words = ["--matrix", "stages.questions.with.count=20,21", "--best", "loss"]
    assert sweep(chain, *words, plain=plain) == 3
    assert "judged on different validation questions" in capsys.readouterr().err


def test_a_combination_that_lacks_a_seed_is_not_chosen(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--matrix", f"{EPOCHS}=13,6", "--best", "accuracy:long"]

    assert sweep(chain, *words, plain=validated()) == 3
    assert "left out, because a seed is missing: epochs=13" in capsys.readouterr().out


@pytest.mark.usefixtures("children")
def test_ctrl_c_stops_every_process_and_the_same_command_continues(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_seed_runs.time, "sleep", interrupt)
        assert sweep(chain, "--matrix", f"{EPOCHS}=4,5", "--jobs", "2") == 5

    assert sweep(chain, "--matrix", f"{EPOCHS}=4,5") == 0


@pytest.mark.parametrize("best", [[], ["--best", "accuracy"]])
def test_the_page_of_a_sweep_shows_the_matrix(
    best: list[str], chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = validated()
    plain["stages"]["report"] = {"uses": "report.html"}
    plain["description"] = "<script>alert(1)</script>"

    assert sweep(chain, "--matrix", f"{EPOCHS}=4,9", "seed=0,1", *best, plain=plain) == 0

    folder = sorted(chain.runs.glob("*-sweep"))[-1]
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.html")
    page = (folder / "report.html").read_text(encoding="utf-8")
    facts = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert "epochs=4 seed 1" in page
    assert "<script" not in page
    assert [row["label"] for row in facts["matrix"]["rows"]] == ["epochs=4", "epochs=9"]
    assert f"--matrix {EPOCHS}=4,9 seed=0,1" in page
    if best:
        assert "Best for long by validation accuracy: epochs=4" in page
        assert not (folder / "001").exists()
    else:
        assert facts["verdict"]["claim"] == "No claim in any of 2 combinations: 5 seeds are needed."
        assert 'href="002/report.html"' in page
        assert "sweep over 2 seeds" in (folder / "002" / "report.html").read_text(encoding="utf-8")


def test_a_run_whose_scores_cannot_be_read_here_is_run_again(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(chain, "seed=0,1") == 0
    (first, second) = list_runs(chain.runs)
    path = next((second.folder / "stages" / "scores").rglob("metrics.jsonl"))
    path.unlink()
    path.write_text('{"of": "another kpod"}\n', encoding="utf-8")
    capsys.readouterr()

    assert sweep(chain, "seed=0,1") == 0

    said = capsys.readouterr()
    assert f"was done before: {first.name}" in said.out
    assert f"was done before: {second.name};" not in said.out
    assert len(list_runs(chain.runs)) == 3


def test_a_sweep_named_as_a_run_is_told_as_a_sweep(chain: Chain) -> None:
    assert sweep(chain, "seed=0,1") == 0
    (folder,) = chain.runs.glob("*-sweep")

    with pytest.raises(
        KpodError, match=r"is a sweep, no run\nname one of its runs: its sweep.json has them"
    ):
        find_run(folder.name, chain.runs)


@pytest.mark.parametrize("words", [["sweep", "seed=0,1"], ["run"]])
def test_a_file_for_a_runs_folder_is_an_error_in_words(
    words: list[str], chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    path = chain.folder / "a file"
    path.touch()

    code = main([words[0], str(chain.write(school())), *words[1:], "--runs", str(path)])

    assert code == (3 if words[0] == "sweep" else 2)
    said = capsys.readouterr().err
    assert (
        f"cannot write in the store {path}/.store: Not a directory\nname another one with --store DIR"
        in said
    )
