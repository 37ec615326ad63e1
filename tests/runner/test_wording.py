"""What a schema describes, in words."""

from __future__ import annotations

import pytest

from kpod.runner.wording import first_sentence


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ("Rank of the added matrices; KPOD App. A: 64. More.", "Rank of the added matrices; KPOD App. A: 64"),
        ('Names of layers, e.g. ["q_proj"]; empty: all. Rest.', 'Names of layers, e.g. ["q_proj"]; empty: all'),
        ("Epochs. Not more.", "Epochs"),
        ("Epochs.", "Epochs"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_sentence_does_not_end_within_an_abbreviation(description: str, sentence: str) -> None:
    assert first_sentence({"description": description}) == sentence
