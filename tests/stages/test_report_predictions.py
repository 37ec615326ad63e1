"""The list of predictions, how much of it a page holds, and notes in words."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages.report import _predictions
from kpod.stages.report._formats import plural
from kpod.stages.report._notes import Note, flat_notes
from kpod.stages.report._worded import worded
from tests.stages.report_pages import (  # fmt: skip
    FakeRun,
    metric_of,
    predictions_of,
    questions_of,
    render,
    scored_run,
)


def test_every_prediction_is_listed_with_what_became_of_it(tmp_path: Path) -> None:
    page, facts = render(scored_run(tmp_path, {"base": 2, "standard": 44, "kpod": 47}, primary=["standard", "kpod"]))  # fmt: skip
    (listing,) = facts["listings"]

    assert listing["arms"] == ["standard", "kpod", "base"]
    assert (len(listing["rows"]), listing["num_questions"]) == (60, 60)
    assert listing["sizes"] == facts["samples"][0]["sizes"]
    assert sum(row["replies"][0]["is_correct"] for row in listing["rows"]) == 44
    assert page.html.count("data-said=") == 60
    assert "said to all 60 questions of scores" in page.text


def test_a_page_holds_as_many_predictions_as_fit_and_says_of_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_predictions, "_MOST_BYTES", 20_000)
    page, facts = render(scored_run(tmp_path, {"a": 30}))
    (listing,) = facts["listings"]
    said = page.html.partition('<section id="predictions">')[2].partition("</section>\n</div>")[0]

    assert 5 < len(listing["rows"]) < 60
    assert f"said to {len(listing['rows'])} of 60 questions of scores, drawn by a hash" in page.text
    assert len(said.partition('<section id="stages">')[0].encode()) < 24_000
    assert "kpod export" in page.text


def test_an_arm_that_was_asked_less_has_gaps_and_answers_that_are_missing_are_told(
    tmp_path: Path,
) -> None:
    run = FakeRun(folder=tmp_path)
    asked = questions_of("test", number=4)
    run.add("questions", "data.table", {"test": asked})
    for arm, questions in (("a", asked), ("b", asked[1:])):
        rows = predictions_of(questions, f"model {arm}", num_correct=1)
        run.add(f"scores[{arm}]", "evaluate.accuracy",
                {"predictions": rows, "metrics": [metric_of(rows, f"model {arm}")]}, wires={"questions": ["questions.test"]})  # fmt: skip
    page, facts = render(run.finish())
    codes = [row[:2] for row in page.html.split('data-said="')[1:]]

    assert sum(code.endswith("-") for code in codes) == 1
    assert sorted("".join(codes)) == ["-", "r", "r", "w", "w", "w", "w", "w"]
    assert facts["listings"][0]["arms"] == ["a", "b"]


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), min_size=1, max_size=12), st.integers(0, 8000))  # fmt: skip
def test_rows_that_are_kept_fit_and_the_next_would_not(
    texts: list[tuple[str, str]], most_bytes: int
) -> None:
    rows = [
        _predictions.Row(
            question=_predictions.Asked(id=str(number), text=asked, choices=(), gold=None), change="wrong",
            replies=(_predictions.Reply(text=said, answer=None, is_correct=False), None),
        )
        for number, (asked, said) in enumerate(texts)
    ]  # fmt: skip
    kept = list(_predictions._fitting(iter(rows), most_bytes))
    sizes = [_predictions._size_b(row) for row in rows]

    assert kept == rows[: len(kept)]
    assert len(kept) == 1 or sum(sizes[: len(kept)]) <= most_bytes
    assert len(kept) == len(rows) or sum(sizes[: len(kept) + 1]) > most_bytes
    assert all(
        size > len((escape(asked) + escape(said)).encode("utf-8", "replace"))
        for size, (asked, said) in zip(sizes, texts, strict=True)
    )
    assert {row.codes for row in kept} == {"n-"}


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("memory.parts_gb.activations", 1.25, ("memory, parts, activations", "1.25 GB")),
        ("peak_memory_gb", 4.0, ("peak memory", "4 GB")), ("tokens_per_s", 15825.62, ("tokens", "15,826 a second")),
        ("quantiles_nats.0.25", 2.5361, ("quantiles, 0.25", "2.536 nats")), ("seconds", 39.98, ("time", "40.0 s")),
        ("questions.train", 2000, ("questions, train", "2,000")), ("words_found_frac", 0.875, ("words found (share)", "0.875")),
        ("num_parameters", 240000, ("number of parameters", "240,000")), ("saved.usd", 0.0042, ("saved, paid", "$0.0042")),
        ("memory.gradient_checkpointing", False, ("memory, gradient checkpointing", "no")), ("limit", None, ("limit", "none")),
        ("<b>.x_b", "text", ("<b>, x", "text")), ("cache_b", 12_500_000, ("cache", "12.5 MB")),
    ],
)  # fmt: skip
def test_notes_are_told_in_words_and_units(
    name: str, value: str | float | bool | None, told: tuple[str, str]
) -> None:
    said = worded(Note(name, value))

    assert (said.name, said.value.replace("\u00a0", " ")) == told


def test_lists_of_notes_are_told_as_lists_and_tables_by_their_size() -> None:
    notes = {"losses": [2.762938, 1, 0.5], "epochs": [{"epoch": 0, "budget_nats": 1}] * 3, "by_quarter": [[3.25, None], [1.5, 2]], "none": []}  # fmt: skip

    assert dict(flat_notes(notes)) == {
        "losses": "2.763, 1, 0.5", "epochs": f"{plural(3, 'row')} with epoch, budget nats",
        "by_quarter": "[3.25, none], [1.5, 2]", "none": "none",
    }  # fmt: skip


@given(st.text(max_size=40), st.one_of(st.none(), st.booleans(), st.text(max_size=20), st.floats(allow_nan=False, allow_infinity=False), st.integers()))  # fmt: skip
def test_any_note_can_be_told(name: str, value: str | float | bool | None) -> None:
    assert isinstance(worded(Note(name, value)).value, str)
