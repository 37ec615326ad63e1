"""Rationales, difficulties and clusters made from numbers, for the tests of curriculum.*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from kpod.runner import Assignment, Difficulty, Rationale, Record

STEP = "One step. "


def curriculum_inputs(
    nats: Sequence[Sequence[float]], clusters: Sequence[int] | None = None
) -> dict[str, list[Record]]:
    """One rationale a question; rationale i has the steps `nats[i]`, each as long as STEP, and the cluster `clusters[i]`."""
    rows: dict[str, list[Record]] = {"rationales": [], "difficulty": [], "clusters": []}
    for index, own in enumerate(nats):
        rationale = Rationale.make(f"q{index}", STEP * len(own), teacher="test")
        steps = tuple(
            (len(STEP) * step, len(STEP) * (step + 1), value) for step, value in enumerate(own)
        )
        cluster = clusters[index] if clusters else index % 3
        rows["rationales"].append(rationale)
        rows["difficulty"].append(Difficulty(rationale_id=rationale.id, steps=steps))
        rows["clusters"].append(Assignment(question_id=f"q{index}", cluster=cluster))
    return rows


nats_lists = st.lists(
    st.lists(st.floats(0, 4, allow_nan=False), min_size=1, max_size=7), min_size=1, max_size=12
)


def ids(inputs: dict[str, list[Any]]) -> list[str]:
    """Ids of the rationales, in order."""
    return [rationale.id for rationale in inputs["rationales"]]
