"""What the report says first: which student is better, by how much, how sure; and what it does not claim."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kpod.runner import Question
from kpod.runner.archive import Archive
from tests.stages.report_pages import (  # noqa: F401 - fixtures are found by their names
    FakeRun,
    metric_of,
    predictions_of,
    questions_of,
    render,
    scored_run,
    three_arms_fixture,
)


def test_the_comparison_that_the_recipe_is_about_comes_first(three_arms: Archive) -> None:
    page, facts = render(three_arms)
    assert facts["headlines"][0]["claim"] == (
        "No winner between standard and kpod on the 60 test questions: "
        "3 more right answers of kpod may be chance."
    )
    first, seed, ranking = (" ".join(line.split()) for line in facts["headlines"][0]["details"])
    assert "standard → kpod: +5.0 points" in first
    assert seed == "One seed (42): an observation, not a claim about the method."
    assert ranking == (
        "No winner on the 60 test questions: kpod has the most right answers, but its interval overlaps that of standard. "
        "kpod: 78.3 % [66.4, 86.9], n = 60; beside it standard 73.3 % [61.0, 82.9], n = 60. "
        "Its interval does lie above that of base (3.3 % [0.9, 11.4], n = 60)."
    )
    assert facts["headlines"][0]["claim"] in page.text


@pytest.mark.parametrize(
    ("num_right", "claim"),
    [
        (50, "kpod answers 20 more of the 60 test questions right than standard."),
        (10, "kpod answers 20 fewer of the 60 test questions right than standard."),
        (30, "standard and kpod have equally many right answers on the 60 test questions."),
    ],
)
def test_two_students_that_differ_are_said_to(tmp_path: Path, num_right: int, claim: str) -> None:
    run = scored_run(tmp_path, {"standard": 30, "kpod": num_right}, primary=["standard", "kpod"])

    assert render(run)[1]["headlines"][0]["claim"] == claim


def test_an_interval_above_all_others_names_the_best(tmp_path: Path) -> None:
    _, facts = render(scored_run(tmp_path, {"base": 2, "answer_only": 11, "standard": 46}))
    assert facts["headlines"][0]["claim"] == "standard is best on the 60 test questions."
    assert "lies above those of answer_only" in facts["headlines"][0]["details"][0]


def test_equal_scores_are_called_equal(tmp_path: Path) -> None:
    _, facts = render(scored_run(tmp_path, {"a": 30, "b": 30}))
    assert facts["headlines"][0]["claim"] == (
        "No winner on the 60 test questions: a and b have equally many right answers."
    )


def test_the_headline_of_many_arms_stays_a_sentence(tmp_path: Path) -> None:
    _, facts = render(scored_run(tmp_path, {name: 30 + i for i, name in enumerate("abcde")}))
    assert facts["headlines"][0]["claim"] == (
        "No winner on the 60 test questions: e has the most right answers, "
        "but its interval overlaps those of d, c and 2 more."
    )


def test_a_single_arm_is_compared_with_nothing(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"standard": 30}))
    assert facts["headlines"][0]["claim"] == "standard answers 30 of 60 test questions right."
    assert "There is one arm" in page.text
    assert facts["test_sets"][0]["pairs"] == []
    assert facts["samples"][0]["sizes"] == {"wrong": 30, "right": 30}


def test_a_second_test_set_has_its_own_answer_and_its_own_questions(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    for stage, number, num_right in (("scores", 60, 50), ("scores_far", 9, 4)):
        asked = questions_of(stage, number=number)
        run.add(f"set_{stage}", "data.table", {"test": asked})
        for arm in ("a", "b"):
            rows = predictions_of(asked, f"model {arm}", num_correct=num_right if arm == "a" else 2)
            run.add(f"{stage}[{arm}]", "evaluate.accuracy",
                    {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]},
                    wires={"questions": [f"set_{stage}.test"]})  # fmt: skip
    page, facts = render(run.finish())
    assert [row["claim"] for row in facts["headlines"]] == [
        "a is best on the 60 test questions.",
        "No winner on the 9 test questions (scores_far): a has the most right answers, "
        "but its interval overlaps that of b.",
    ]
    assert [len(sample["journeys"]) for sample in facts["samples"]] == [12, 9]
    assert all(headline["claim"] in page.text for headline in facts["headlines"])


def test_questions_that_were_answered_several_times_are_not_paired(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    asked = questions_of("test", number=5)
    for arm in ("a", "b"):
        rows = predictions_of(asked, f"model {arm}", num_correct=3)
        rows += [replace(row, sample=1) for row in rows]
        run.add(f"scores[{arm}]", "evaluate.accuracy",
                {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]})  # fmt: skip
    page, facts = render(run.finish())
    assert facts["test_sets"][0]["pairs"] == []
    assert "The arms are not paired: questions were answered several times." in page.text


def test_the_choices_of_a_question_are_listed_and_escaped(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    asked = [
        Question.make("Where is rain?", kind="choice", answer="B", split="test", source="x",
                      choices=["<i>shoe</i>", "cloud"])
    ]  # fmt: skip
    run.add("q", "data.table", {"test": asked})
    rows = predictions_of(asked, "model a", num_correct=1)
    run.add("scores[a]", "evaluate.accuracy",
            {"predictions": rows, "metrics": [metric_of(rows, "model a")]},
            wires={"questions": ["q.test"]})  # fmt: skip
    page, _ = render(run.finish())
    assert "<i>shoe</i> cloud" in page.text
    assert "i" not in page.tags


def test_untrained_arms_need_no_word_on_seeds(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"base": 30}))
    assert facts["students"] == []
    assert "One seed" not in page.text


def test_questions_without_gold_give_texts_and_no_score(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"standard": 0, "kpod": 0}, has_gold=False))
    assert facts["headlines"][0]["claim"] == (
        "No score: none of the 60 test questions has a gold answer."
    )
    assert facts["test_sets"][0]["arms"][0]["accuracy"] is None
    assert facts["test_sets"][0]["pairs"] == []
    assert "not scored" in page.text
