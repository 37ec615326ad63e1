"""Prompts of like length are read together: little padding, few calls, and never another text."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages._lm import writing_loop
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.generation import Request
from kpod.stages._lm.loading import Limits
from kpod.stages._lm.writing_loop import length_groups
from tests.stages.tiny_texts import CountingModel, store_at, texts_of, tiny_lm

LIMITS = Limits(frozenset({2, *range(10, 16)}), 256)


def _requests(num_prompts: int) -> list[Request]:
    """Prompts of 1 to 40 random tokens."""
    draw = random.Random(6)
    lengths = [draw.randint(1, 40) for _ in range(num_prompts)]
    return [
        Request(prompt_ids=tuple(draw.randrange(16, 150) for _ in range(length)))
        for length in lengths
    ]


def _cost(lengths: list[int], groups: list[list[int]], call_tokens: float) -> float:
    return sum(
        max(lengths[index] for index in group) * len(group) + call_tokens for group in groups
    )


def _free_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every length be a group of its own."""
    monkeypatch.setattr(writing_loop, "_CALL_TOKENS", 0)
    monkeypatch.setattr(writing_loop, "_PYTHON_WIDTH", 0)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=8),
    st.integers(1, 200),
    st.floats(0, 100),
)
def test_the_split_is_the_cheapest_of_all_runs_by_length_that_fit(
    lengths: list[int], most_tokens: int, call_tokens: float
) -> None:
    groups = length_groups(lengths, most_tokens=most_tokens, call_tokens=call_tokens)

    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    assert [index for group in groups for index in group] == order
    possible = []
    for cuts in range(2 ** (len(order) - 1)):
        stops = [0, *(k + 1 for k in range(len(order) - 1) if cuts >> k & 1), len(order)]
        runs = [order[start:stop] for start, stop in pairwise(stops)]
        if all(len(run) == 1 or lengths[run[-1]] * len(run) <= most_tokens for run in runs):
            possible.append(_cost(lengths, runs, call_tokens))
    assert _cost(lengths, groups, call_tokens) == pytest.approx(min(possible))


def test_a_group_holds_no_more_tokens_than_it_may_but_a_longer_prompt_is_read_alone() -> None:
    groups = length_groups([700, 30, 30, 30, 1500], most_tokens=64, call_tokens=1000)

    assert groups == [[1], [2, 3], [0], [4]]


def test_prompts_of_40_to_120_tokens_are_read_with_little_padding_by_a_wide_model() -> None:
    draw = random.Random(0)
    lengths = [draw.randint(40, 120) for _ in range(32)]

    groups = length_groups(lengths, most_tokens=512, call_tokens=32)

    # All at once, padding would be 49 % of the tokens; a call more than 8 would cost more than it saves.
    assert _cost(lengths, groups, 0) < 1.08 * sum(lengths)
    assert len(groups) <= 8


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("batch_tokens", [8 * 64, 100_000])
def test_prompts_read_in_many_groups_are_answered_as_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, batch_tokens: int
) -> None:
    _free_calls(monkeypatch)
    requests, model = _requests(24), tiny_lm(architecture)
    found = {}
    for name, budget in (("together", batch_tokens), ("alone", 1)):
        with store_at(tmp_path, name) as store:
            found[name] = texts_of(store, requests, model=model, limits=LIMITS, batch_tokens=budget)

    assert found["together"] == found["alone"]
    assert len({text.completion_tokens for text in found["alone"]}) > 4, "rows end apart"


def test_where_calls_cost_nothing_no_padding_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _free_calls(monkeypatch)
    requests, model = _requests(24), CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        texts_of(store, requests, model=model, decoding=Decoding(max_new_tokens=1))

    assert model.num_tokens == sum(len(request.prompt_ids) for request in requests)


def test_a_narrow_model_reads_short_prompts_by_one_call(tmp_path: Path) -> None:
    requests, model = _requests(24), CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        texts_of(store, requests, model=model, decoding=Decoding(max_new_tokens=1))

    assert model.num_rows == [len(requests)]
