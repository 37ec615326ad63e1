"""What the report says of the ladder from samples to verified rationales, of its costs, and of test questions that look taught."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kpod.runner import Question, Rationale
from kpod.runner.archive import Archive
from kpod.stages.filter._tally import Tally
from kpod.stages.report._formats import usd
from tests.stages.report_pages import (
    FakeRun,
    metric_of,
    predictions_of,
    questions_of,
    render,
)


def rationale(question: Question, index: int, *, teacher: str = "gpt") -> Rationale:
    text = f"Sample {index}: the sum is {question.answer}."
    return Rationale.make(question.id, text, teacher=teacher, answer=question.answer, verdict="correct")  # fmt: skip


def filtered(dropped: dict[str, list[str]], kept: list[Rationale], *, num_questions: int) -> dict[str, Any]:  # fmt: skip
    """The notes of a filter that dropped rationales of these questions."""
    tally = Tally(num_questions)
    for rung, ids in dropped.items():
        for id_ in ids:
            tally.falls(id_, rung)
    for one in kept:
        tally.passes(one.question_id, is_hinted=one.is_hinted)
    return tally.notes()


def ladder_run(folder: Path) -> Archive:
    """10 questions: 4 solved by 2 samples each, 1 more with a hint; one filter before and one after the hint."""
    run = FakeRun(folder=folder)
    train = questions_of("train", number=10)
    ids = [question.id for question in train]
    written = [rationale(question, index) for question in train for index in range(2)]
    verified = written[:8]
    hinted = [rationale(question, 9, teacher="gpt+hint") for question in train[4:]]
    run.add("questions", "data.table", {"train": train})
    asked = {"questions": ["questions.train"]}
    run.add("rationales", "teacher.openai", {"rationales": written}, wires=asked, seconds=30.0,
            notes={"prompt_tokens": 2000, "completion_tokens": 1000, "usd": 0.5,
                   "saved": {"texts": 3, "prompt_tokens": 100, "completion_tokens": 50, "usd": 0.05}})  # fmt: skip
    run.add("verified", "filter.verified", {"verified": verified}, seconds=0.5,
            wires={**asked, "rationales": ["rationales.rationales"]},
            notes=filtered({"wrong": [*ids[4:], *ids[4:9]], "arithmetic": [ids[9]]}, verified, num_questions=10))  # fmt: skip
    run.add("hinted", "teacher.openai", {"rationales": hinted}, seconds=10.0, status="hit",
            wires={**asked, "solved": ["verified.verified"]},
            notes={"prompt_tokens": 600, "completion_tokens": 300, "usd": 0.25})  # fmt: skip
    kept = [*verified, hinted[0]]
    run.add("kept", "filter.verified", {"verified": kept}, seconds=0.5,
            wires={**asked, "rationales": ["verified.verified", "hinted.rationales"]},
            notes=filtered({"leaked": ids[5:]}, kept, num_questions=10))  # fmt: skip
    run.add("student", "student.causal_lm", {"student": None},
            wires={**asked, "rationales": ["kept.verified"]})  # fmt: skip
    return run.finish()


def test_the_ladder_shows_what_every_rung_left_and_what_it_cost(tmp_path: Path) -> None:
    page, facts = render(ladder_run(tmp_path))
    rungs = [
        (row["stage"], row["name"], row["dropped"], row["rationales"], row["questions"]["count"], row["questions"]["total"])
        for row in facts["ladder"]["rungs"]
    ]  # fmt: skip

    assert rungs == [
        ("rationales", "written", None, 20, 10, 10),
        ("verified", "wrong", 11, 9, 5, 10),
        ("verified", "arithmetic", 1, 8, 4, 10),
        ("verified", "kept", 12, 8, 4, 10),
        ("hinted", "written with hints", None, 6, 6, 10),
        ("kept", "leaked", 5, 9, 5, 10),
        ("kept", "kept", 5, 9, 5, 10),
    ]
    ladder = facts["ladder"]
    assert (ladder["kept"]["count"], ladder["num_hinted"]) == (5, 1)
    assert (ladder["tokens"], ladder["usd"], ladder["seconds"]) == (3900, 0.8, 41.0)
    assert ladder["usd_a_question"] == 0.16
    assert (
        "In the end 5 of 10 questions have a rationale; 1 rationale was written with the answer as a hint,"
        " for $0.80 ($0.16 a question)."
    ) in page.text


def test_what_was_paid_and_what_the_store_saved_are_told_apart(tmp_path: Path) -> None:
    page, facts = render(ladder_run(tmp_path))
    totals = facts["totals"]

    assert (totals["usd"], totals["tokens"], totals["saved_tokens"]) == (0.5, 2850, 1050)
    assert round(totals["saved_usd"], 9) == 0.3
    assert "Paid $0.50 $0.30 saved by the store" in page.text


def test_a_run_without_prices_speaks_of_no_money(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    train = questions_of("train", number=3)
    run.add("questions", "data.table", {"train": train})
    run.add("rationales", "teacher.local", {"rationales": [rationale(q, 0) for q in train]},
            wires={"questions": ["questions.train"]},
            notes={"prompt_tokens": 20, "completion_tokens": 10})  # fmt: skip
    page, facts = render(run.finish())

    assert facts["totals"]["usd"] is facts["ladder"]["usd"] is None
    assert "Paid" not in page.text
    assert facts["totals"]["tokens"] == 30


def test_hinted_rationales_are_shown_as_such(tmp_path: Path) -> None:
    run = FakeRun(folder=tmp_path)
    train = questions_of("train", number=2)
    taught = [rationale(train[0], 0), rationale(train[1], 1, teacher="gpt+hint")]
    run.add("questions", "data.table", {"train": train})
    run.add("rationales", "teacher.openai", {"rationales": taught}, wires={"questions": ["questions.train"]})  # fmt: skip
    run.add("student", "student.causal_lm", {"student": None},
            wires={"questions": ["questions.train"], "rationales": ["rationales.rationales"]})  # fmt: skip
    page, facts = render(run.finish())

    told = sorted((row["is_hinted"], row["teacher"]) for row in facts["taught"])
    assert told == [(False, "gpt"), (True, "gpt")]
    assert page.text.count("who was told the answer") == 1


def compared_run(folder: Path, *, uses: str = "data.table", is_told: bool = True) -> Archive:
    """60 test questions, all with the text of training questions up to numbers but for 5; arm a is right on 30 of all."""
    run = FakeRun(folder=folder)
    test = questions_of("test")
    test[:5] = [
        Question.make(f"Bob's plum {name}?", kind="numeric", answer="1", split="test", source="x")
        for name in "abcde"
    ]
    train = [
        Question.make(q.text.replace(" apples", "1 apples"), kind="numeric", answer="1", split="train", source="x")
        for q in test[5:]
    ]  # fmt: skip
    run.add("questions", uses, {"train": train, "test": test})
    rows = predictions_of(test, "model a", num_correct=30)
    run.add("scores[a]", "evaluate.accuracy", {"predictions": rows, "metrics": [metric_of(rows, "model a")]},
            wires={"questions": ["questions.test"]})  # fmt: skip
    archive = run.finish()
    if is_told:
        event = {"event": "contamination_checked", "train": "questions.train", "test": "questions.test"}  # fmt: skip
        (folder / "events.jsonl").write_text(json.dumps(event) + "\n", encoding="utf-8")
    return archive


def test_accuracy_is_given_on_the_questions_that_no_training_question_looks_like(
    tmp_path: Path,
) -> None:
    archive = compared_run(tmp_path)
    page, facts = render(archive)
    (clean,) = facts["clean"]

    assert (clean["num_questions"], clean["num_exact"], clean["num_masked"]) == (60, 0, 55)
    (arm,) = clean["arms"]
    assert (arm["full"]["count"], arm["full"]["total"]) == (30, 60)
    assert arm["clean"]["total"] == 5
    assert {"low", "high"} <= arm["clean"].keys()
    assert "55 of 60 questions have the text of a training question of questions.train" in page.text
    assert "by design" not in page.text


def test_look_alikes_of_templates_are_said_to_be_by_design(tmp_path: Path) -> None:
    page, facts = render(compared_run(tmp_path, uses="data.word_problems"))

    assert facts["clean"][0]["is_procedural"] is True
    assert "That is by design: these questions are made from templates" in page.text


def test_a_run_that_compared_nothing_claims_nothing(tmp_path: Path) -> None:
    page, facts = render(compared_run(tmp_path, is_told=False))

    assert facts["clean"] == []
    assert "look like training questions" not in page.text


def test_dollars_have_two_digits_that_matter() -> None:
    assert [usd(amount) for amount in (0, 0.00042, 0.5, 12.3, 1234.5)] == [
        "$0", "$0.00042", "$0.50", "$12.30", "$1,234.50",
    ]  # fmt: skip
