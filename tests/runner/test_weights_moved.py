"""Weights of the same spans are compared without reading the spans, and nothing is told otherwise because of that."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner.comparing.reading import differing
from kpod.runner.comparing.rows import change_of, change_of_lines
from kpod.runner.comparing.weights import weights_at_same_places

SPANS = [[0, 3], [4, 7], [9, 12]]
WEIGHTS = st.lists(st.sampled_from([0.0, 0.5, 0.25, 1.0]), min_size=3, max_size=3)
RUNS = st.dictionaries(st.sampled_from(["r1", "r2", "r3"]), WEIGHTS)


def _row(key: str, weights: list[float], spans: list[list[int]] | None = None) -> dict[str, Any]:
    return {"rationale_id": key, "spans": spans or SPANS, "weights": weights}


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)


@settings(max_examples=200)
@given(RUNS, RUNS, st.booleans())
def test_what_is_told_is_what_all_of_the_rows_tell(
    a: dict[str, list[float]], b: dict[str, list[float]], has_other_spans: bool
) -> None:
    spans = [[0, 3], [4, 7], [9, 13]] if has_other_spans else SPANS
    left = [_row(key, weights) for key, weights in a.items()]
    right = [_row(key, weights, spans) for key, weights in b.items()]

    found = change_of_lines("TokenWeights", "weights", differing(_lines(left), _lines(right)))

    assert found == change_of("TokenWeights", "weights", left, right)


def test_the_spans_of_the_same_rationales_are_not_read() -> None:
    lines = differing(
        b'{"rationale_id":"r","spans":no JSON,"weights":[0.5]}\n', b'{"rationale_id":"r","spans":no JSON,"weights":[0.5,1]}\n'
    )  # fmt: skip

    assert weights_at_same_places(lines) is not None


def test_a_number_that_is_only_written_otherwise_is_the_same() -> None:
    lines = differing(
        b'{"rationale_id":"r","spans":[[0,1]],"weights":[1]}', b'{"rationale_id":"r","spans":[[0,1]],"weights":[1.0]}'
    )  # fmt: skip

    found = change_of_lines("TokenWeights", "weights", lines)

    assert (found.num_same, found.moved) == (1, None)


@pytest.mark.parametrize(
    "line",
    [
        b'{"rationale_id":"r","weights":[1],"spans":[[0,1]]}', b'{"weights":[1]}',
        b'{"rationale_id":"r","spans":[[0,1]],"weights":[1],"more":[2]}',
    ],
)  # fmt: skip
def test_a_record_of_another_form_is_read_whole(line: bytes) -> None:
    assert weights_at_same_places(differing(line, line.replace(b"1]", b"2]", 1))) is None
