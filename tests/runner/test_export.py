"""Plain files of a run: what stands in them, which stage they come from, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Question, Rationale
from kpod.runner.archive import Archive
from kpod.runner.cli import main
from kpod.runner.export import ExportError, Form, export
from kpod.runner.model_export import export_model
from tests.stages.report_pages import FakeRun, predictions_of, questions_of
from tests.stages.report_runs import method_run, rationale_of


def pipeline(folder: Path, *, has_gold: bool = True, is_trained: bool = True) -> Archive:
    """A teacher, a filter that cuts the last word off, a student and its base, both evaluated."""
    folder.mkdir(parents=True)
    run = FakeRun(folder=folder, primary=("base", "student"))
    train, test = (questions_of(split, has_gold=has_gold) for split in ("train", "test"))
    said = [rationale_of(question, index) for index, question in enumerate(train)]
    kept = [
        Rationale.make(row.question_id, row.text.rpartition(" ")[0], teacher=row.teacher)
        for row in said[1:]
    ]
    asked = {"questions": ["questions.train"]}
    run.add("questions", "data.table", {"train": train, "test": test})
    run.add("rationales", "teacher.local", {"rationales": said}, wires=asked)
    run.add(
        "verified", "filter.verified", {"verified": kept},
        wires={**asked, "rationales": ["rationales.rationales"]},
    )  # fmt: skip
    if is_trained:
        run.add(
            "student", "student.causal_lm", {"student": None},
            wires={**asked, "rationales": ["verified.verified"]},
        )  # fmt: skip
        for seed, arm in enumerate(("base", "student")):
            run.add(
                f"scores[{arm}]", "evaluate.accuracy",
                {"predictions": predictions_of(test, arm, num_correct=2, seed=seed)},
                wires={"models": [f"{arm}.student"], "questions": ["questions.test"]},
            )  # fmt: skip
    return run.finish()


def exported(
    archive: Archive,
    form: Form,
    to: Path,
    *,
    arm: str | None = None,
    stage: str | None = None,
) -> list[dict[str, Any]]:
    """The rows of the file."""
    export(archive, form, to=to, arm=arm, stage=stage, overwrites=False)
    return [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]


def test_cot_is_what_the_student_read_joined_to_its_questions(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run")
    questions = {q.id: q.text for q in archive.read(archive.units["questions"], "train", Question)}
    kept = list(archive.read(archive.units["verified"], "verified", Rationale))

    rows = exported(archive, "cot", tmp_path / "cot.jsonl")

    assert rows == [{"question": questions[r.question_id], "cot": r.text} for r in kept]


def test_a_teacher_s_own_texts_are_had_by_the_name_of_its_stage(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run")

    rows = exported(archive, "cot", tmp_path / "cot.jsonl", stage="rationales")

    said = archive.read(archive.units["rationales"], "rationales", Rationale)
    assert [row["cot"] for row in rows] == [rationale.text for rationale in said]


def test_without_a_student_cot_is_what_the_last_filter_kept(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run", is_trained=False)

    done = export(archive, "cot", to=tmp_path / "a.jsonl", arm=None, stage=None, overwrites=False)

    assert (done.unit, done.num_rows) == ("verified", len(questions_of("train")) - 1)


def test_predictions_are_those_of_the_arm_that_the_recipe_is_about(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run")

    student = exported(archive, "predictions", tmp_path / "student.jsonl")
    base = exported(archive, "predictions", tmp_path / "base.jsonl", arm="base")

    assert list(student[0]) == ["question", "generated_text", "prediction", "gold_answer"]
    assert [row["question"] for row in student] == [row["question"] for row in base]
    assert [row["generated_text"] for row in student] != [row["generated_text"] for row in base]
    assert {row["gold_answer"] for row in student} == {q.answer for q in questions_of("test")}


def test_a_gold_answer_that_is_not_there_is_null(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run", has_gold=False)

    rows = exported(archive, "predictions", tmp_path / "said.jsonl", arm="student")

    assert {row["gold_answer"] for row in rows} == {None}
    assert all(row["prediction"] for row in rows)


def test_arms_that_the_recipe_does_not_compare_have_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    archive = method_run(tmp_path / "run", primary=())

    with pytest.raises(ExportError, match=r"name one as RUN:ARM: standard, standard_tokens, kpod"):
        exported(archive, "predictions", tmp_path / "a.jsonl")
    assert exported(archive, "predictions", tmp_path / "a.jsonl", arm="kpod")


@pytest.mark.parametrize(
    ("form", "asked", "told"),
    [
        ("predictions", {"arm": "studnt"}, r"no 'studnt' .*\nallowed: base, student\ndid you mean"),
        ("cot", {"arm": "base"}, r"no 'base' .*\nallowed: student"),
        ("cot", {"stage": "scores"}, "no 'scores'"),
        ("cot", {"stage": "questions"}, "has no rationales"),
        ("predictions", {"stage": "verified"}, r"allowed: scores"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(
    tmp_path: Path, form: Form, asked: dict[str, str], told: str
) -> None:
    archive = pipeline(tmp_path / "run")

    with pytest.raises(ExportError, match=told):
        exported(archive, form, tmp_path / "a.jsonl", **asked)
    assert not list(tmp_path.glob("*.jsonl*"))


def test_a_run_without_evaluation_has_no_predictions(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run", is_trained=False)

    with pytest.raises(ExportError, match="no predictions\nexport a run with an evaluation"):
        exported(archive, "predictions", tmp_path / "a.jsonl")


def test_a_rationale_of_an_unknown_question_stops_the_export_and_leaves_no_file(
    tmp_path: Path,
) -> None:
    archive = pipeline(tmp_path / "run")
    path = archive.output_path(archive.units["questions"], "train")
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[:-1]), "utf-8")

    with pytest.raises(ExportError, match=r"rationale \w+ belongs to question \w+, which is not"):
        exported(archive, "cot", tmp_path / "a.jsonl")
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


def test_the_command_writes_into_the_working_folder_and_replaces_only_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pipeline(tmp_path / "run")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    words = ["export", str(archive.folder), "--as", "cot"]

    first, again = main([*words, "--json"]), main(words)
    said = capsys.readouterr()

    assert (first, again) == (0, 2)
    assert json.loads(said.out) == {
        "run": "run", "unit": "verified", "file": "cot_dataset.jsonl",
        "num_rows": len(questions_of("train")) - 1,
    }  # fmt: skip
    assert "cot_dataset.jsonl is there already" in said.err
    assert "--force" in said.err
    assert main([*words, "--force"]) == 0
    assert main([*words, "--to", str(tmp_path / "none" / "a.jsonl")]) == 2
    assert "no such file or directory" in capsys.readouterr().err


def test_the_command_takes_an_arm_after_a_colon(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pipeline(tmp_path / "20261122T020102Z-sums-abcdef")
    to = tmp_path / "base.jsonl"

    code = main(
        ["export", f"{archive.name}:base", "--as", "predictions", "--to", str(to), "--runs", str(tmp_path)]
    )  # fmt: skip

    assert code == 0
    assert "scores[base]" in capsys.readouterr().out


def with_spec(archive: Archive, *, base: str | None) -> Archive:
    """The student as a folder with its model.json alone."""
    folder = archive.output_path(archive.units["student"], "student")
    folder.mkdir()
    (folder / "model.json").write_text(json.dumps({"base": base, "precision": "fp32"}), "utf-8")
    return archive


@pytest.mark.parametrize(
    ("arm", "told"),
    [
        ("studnt", r"no 'studnt' .*\nallowed: student\ndid you mean 'student'"),
        ("verified", r"'verified' \(filter\.verified\) is no student\nallowed: student"),
    ],
)
def test_a_model_is_exported_only_of_a_student(tmp_path: Path, arm: str, told: str) -> None:
    archive = with_spec(pipeline(tmp_path / "run"), base=None)

    with pytest.raises(ExportError, match=told):
        export_model(archive, "merged", to=tmp_path / "out", arm=arm)
    assert not (tmp_path / "out").exists()


def test_a_run_without_a_student_has_no_model_to_export(tmp_path: Path) -> None:
    archive = pipeline(tmp_path / "run", is_trained=False)

    with pytest.raises(ExportError, match="no student\nexport a run that trains one"):
        export_model(archive, "merged", to=tmp_path / "out", arm=None)


def test_students_that_the_recipe_does_not_compare_have_to_be_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    archive = method_run(tmp_path / "run", primary=())

    with pytest.raises(ExportError, match=r"name one as RUN:ARM: standard, standard_tokens, kpod"):
        export_model(archive, "adapter", to=tmp_path / "out", arm=None)


def test_a_student_that_was_trained_whole_has_no_adapter(tmp_path: Path) -> None:
    archive = with_spec(pipeline(tmp_path / "run"), base=None)

    with pytest.raises(ExportError, match=r"trained whole .*\nexport it with --as merged"):
        export_model(archive, "adapter", to=tmp_path / "out", arm=None)


def test_an_adapter_whose_base_is_not_in_the_archive_names_it(tmp_path: Path) -> None:
    archive = with_spec(pipeline(tmp_path / "run"), base="0123456789abcdef")

    with pytest.raises(ExportError, match=r"model 0123456789ab, .*\nrun the recipe that made it"):
        export_model(archive, "adapter", to=tmp_path / "out", arm=None)


def test_a_student_whose_files_are_gone_says_how_to_get_them_back(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"model\.json is gone .*\nrun the same command again"):
        export_model(pipeline(tmp_path / "run"), "merged", to=tmp_path / "out", arm=None)


def test_an_evaluation_that_did_not_score_the_student_is_refused(tmp_path: Path) -> None:
    archive = with_spec(pipeline(tmp_path / "run"), base=None)

    with pytest.raises(ExportError, match=r"no 'score' .*\nallowed: scores\ndid you mean"):
        export_model(archive, "merged", to=tmp_path / "out", arm=None, stage="score")


def test_a_folder_that_is_there_is_replaced_only_by_force_and_only_if_it_is_an_export(
    tmp_path: Path,
) -> None:
    archive = with_spec(pipeline(tmp_path / "run"), base=None)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work", "utf-8")

    with pytest.raises(ExportError, match=r"there already\n.*--force"):
        export_model(archive, "merged", to=tmp_path / "mine", arm=None)
    with pytest.raises(ExportError, match="no export of kpod, so --force does not replace it"):
        export_model(archive, "merged", to=tmp_path / "mine", arm=None, overwrites=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_a_run_that_did_not_end_is_not_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pipeline(tmp_path / "run")
    (archive.folder / "run.json").unlink()
    (archive.folder / "events.jsonl").write_text("", "utf-8")

    assert main(["export", str(archive.folder), "--as", "merged"]) == 2
    assert "did not come to its end" in capsys.readouterr().err


def test_options_of_models_are_refused_for_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = pipeline(tmp_path / "run")

    for option in (["--dtype", "bf16"], ["--no-check"]):
        assert main(["export", str(archive.folder), "--as", "cot", *option]) == 2
        assert f"{option[0]} has no effect on --as cot" in capsys.readouterr().err
