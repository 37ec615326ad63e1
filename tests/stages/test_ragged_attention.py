"""Rows that are read in stretches: every token is read, little padding is, and no text becomes another."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpod.stages._lm import ragged_attention, writing_loop
from kpod.stages._lm.decoder_steps import CausalSteps
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.generation import Request
from kpod.stages._lm.loading import Limits
from kpod.stages._lm.ragged_attention import is_ragged, ragged, stretches_of
from tests.stages.tiny_texts import store_at, texts_of, tiny_lm

TOKEN_BYTES = 768


@pytest.fixture
def split_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if another stretch cost nothing: rows of every length stand in their own."""
    monkeypatch.setattr(ragged_attention, "_STRETCH_BYTES", 0)


def _mask(rows: list[tuple[int, int, int]], *, width: int) -> torch.Tensor:
    """Rows of so many columns without a token, tokens, and columns without one again; the rest are tokens."""
    mask_BT = torch.ones(len(rows), width, dtype=torch.bool)
    for row, (first, num_tokens, gap) in enumerate(rows):
        mask_BT[row, :first] = False
        mask_BT[row, first + num_tokens : min(first + num_tokens + gap, width - 1)] = False
    return mask_BT


_ROWS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(1, 40), st.integers(0, 20)), min_size=1, max_size=60
)


@given(_ROWS)
def test_every_row_is_read_once_in_order_and_none_of_its_tokens_is_left_out(
    rows: list[tuple[int, int, int]],
) -> None:
    mask_BT = _mask(rows, width=260)
    found = stretches_of(mask_BT, token_bytes=TOKEN_BYTES)

    covered = [row for one in found for row in range(one.rows.start, one.rows.stop)]
    assert covered == list(range(len(rows)))
    for one in found:
        assert not mask_BT[one.rows, : one.first].any()
        assert one.is_full == bool(mask_BT[one.rows, one.first :].all())


@given(_ROWS)
def test_stretches_cost_no_more_than_one_for_all_rows(rows: list[tuple[int, int, int]]) -> None:
    mask_BT = _mask(rows, width=260)
    found = stretches_of(mask_BT, token_bytes=TOKEN_BYTES)
    read = sum((one.rows.stop - one.rows.start) * (260 - one.first) for one in found)
    whole = len(rows) * (260 - min(one.first for one in found))
    stretches = (len(found) - 1) * ragged_attention._STRETCH_BYTES

    assert read * TOKEN_BYTES + stretches <= whole * TOKEN_BYTES + ragged_attention._STRETCH_BYTES


def test_rows_that_joined_late_stand_apart_from_their_elders() -> None:
    elders, newcomers = [(0, 100, 0)] * 12, [(58, 42, 0)] * 20 + [(60, 40, 0)] * 60
    found = stretches_of(_mask(elders + newcomers, width=100), token_bytes=TOKEN_BYTES)

    assert [(one.rows.stop, one.first, one.is_full) for one in found] == [(12, 0, True), (92, 58, False)]  # fmt: skip


def _steps(model: Any, lengths: list[int], draw: random.Random) -> CausalSteps:
    prompts = [[draw.randrange(5, 150) for _ in range(length)] for length in lengths]
    return CausalSteps(model, prompts, pad_id=0, max_new=8)


@pytest.mark.usefixtures("split_always")
@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_logits_are_those_of_attending_to_all_rows_at_once(architecture: str) -> None:
    model = tiny_lm(architecture)
    logits, num_stretches = [], 0
    for scope in (ragged(model), nullcontext()):
        draw = random.Random(1)
        with torch.inference_mode(), scope:
            steps, late = _steps(model, [30, 9, 30], draw), _steps(model, [5, 7], draw)
            newest_B = steps.next_logits(None).argmax(-1)
            late_B = late.next_logits(None).argmax(-1)
            steps.take_in([late])
            steps.keep(torch.tensor([1, 2, 3, 4]))
            logits.append(steps.next_logits(torch.cat([newest_B, late_B])[1:]))
            num_stretches = max(num_stretches, len(steps._read_together()))

    assert num_stretches == 4
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)
    assert logits[0].std() > 0.1


def _doge() -> Any:
    """A model that adds a learned mask of its own to the one it was given."""
    from transformers import DogeConfig, DogeForCausalLM

    torch.manual_seed(0)
    config = DogeConfig(
        vocab_size=160, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.3,
    )  # fmt: skip
    model = DogeForCausalLM(config).eval()
    for name, values in model.named_parameters():
        if name.endswith("self_attn.A"):
            torch.nn.init.normal_(values)
    return model


@pytest.mark.usefixtures("split_always")
def test_a_mask_that_the_model_changed_is_heeded() -> None:
    model = _doge()
    logits = []
    for scope in (ragged(model), nullcontext()):
        with torch.inference_mode(), scope:
            steps = _steps(model, [30, 9, 30], random.Random(1))
            steps.next_logits(None)
            logits.append(steps.next_logits(torch.tensor([7, 8, 9])))

    torch.testing.assert_close(logits[0], logits[1], rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("split_always")
@pytest.mark.parametrize("shared", [0, 48], ids=["alone", "behind a prefix"])
def test_texts_are_the_same_by_stretches_and_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: int
) -> None:
    draw = random.Random(5)
    before = tuple(draw.randrange(5, 150) for _ in range(shared))
    requests = [
        Request(prompt_ids=before + tuple(draw.randrange(5, 150) for _ in range(draw.randint(1, 40))))
        for _ in range(40)
    ]  # fmt: skip
    found = []
    for name in ("stretches", "at once"):
        if name == "at once":
            monkeypatch.setattr(writing_loop, "ragged", lambda _: nullcontext())
        with store_at(tmp_path, name) as store:
            texts = texts_of(
                store, requests, limits=Limits(frozenset({2, *range(10, 16)}), 256),
                decoding=Decoding(max_new_tokens=60), batch_tokens=8 * (100 + shared),
            )  # fmt: skip
        found.append(texts)

    assert found[0] == found[1]
    assert len({text.completion_tokens for text in found[0]}) > 4


def test_padding_of_late_rows_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def counted(query: Any, key: Any, value: Any, **more: Any) -> Any:
        read.append((len(key), key.shape[2]))
        return attend(query, key, value, **more)

    monkeypatch.setattr(ragged_attention, "_STRETCH_BYTES", 0)
    model, draw = tiny_lm(), random.Random(1)
    with torch.inference_mode(), ragged(model):
        steps, late = _steps(model, [40, 40], draw), _steps(model, [5, 5, 5], draw)
        newest = [one.next_logits(None).argmax(-1) for one in (steps, late)]
        steps.take_in([late])
        monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", counted)
        steps.next_logits(torch.cat(newest))

    assert set(read) == {(2, 41), (3, 6)}


def test_the_model_attends_as_before_afterwards_whatever_happens() -> None:
    model = tiny_lm()

    def stopped() -> Iterator[None]:
        with ragged(model):
            assert is_ragged(model)
            yield
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(stopped())
    assert model.config._attn_implementation == "sdpa"


def test_a_model_that_attends_otherwise_is_left_alone() -> None:
    model = tiny_lm()
    model.set_attn_implementation("eager")
    try:
        with ragged(model):
            assert not is_ragged(model)
            assert model.config._attn_implementation == "eager"
    finally:
        model.set_attn_implementation("sdpa")
