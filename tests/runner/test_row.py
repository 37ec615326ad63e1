"""Records say what their fields take, and refuse the rest when they are written."""

from __future__ import annotations

from typing import Any

import pytest

from kpod.runner import (
    Assignment,
    Metric,
    Prediction,
    Question,
    Rationale,
    Record,
    TokenWeights,
    Usage,
)
from kpod.runner.row import check_fields

SOUND = [
    Question.make("How many?", kind="numeric", answer=None, split="train", source="test"),
    Question.make("Which?", kind="choice", answer="A", split="test", source="test", choices=["a", "b"]),
    Rationale.make("q", "1 + 1 = 2.", teacher="reference"),
    Rationale.make("q", "2", teacher="t", usage=Usage(prompt_tokens=1), finish="stop", verdict="correct"),
    TokenWeights(rationale_id="r", spans=((0, 1),), weights=(0.5,)),
    Assignment(question_id="q", cluster=0),
    Prediction(
        question_id="q", model="m", sample=0, text="2", answer="2", is_correct=None, rule="phrase", num_tokens=1,
        finish="stop",
    ),
    Metric(
        model="m", data="d", n=1, num_correct=1, accuracy=1, low=0.2, high=1.0, strict_frac=None, flexible_frac=None,
        num_changed_by_extractor=None, no_answer_frac=0.0, truncated_frac=0.0, mean_tokens=3,
    ),
]  # fmt: skip


@pytest.mark.parametrize("record", SOUND, ids=lambda record: type(record).__name__)
def test_a_sound_record_is_taken(record: Record) -> None:
    check_fields(record)


@pytest.mark.parametrize(
    ("record", "told"),
    [
        (
            Assignment(question_id="q", cluster="0"),
            r"Assignment\.cluster is '0' \(str\); it takes: int",
        ),  # type: ignore[arg-type]
        (
            Assignment(question_id="q", cluster=True),
            r"Assignment\.cluster is True \(bool\); it takes: int",
        ),
        (
            Rationale.make("q", "2", teacher="t", verdict="right"),  # type: ignore[arg-type]
            r"Rationale\.verdict is 'right' \(str\); it takes: correct, no_answer, truncated, wrong",
        ),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(record: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        check_fields(record)
