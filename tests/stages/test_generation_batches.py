"""Batches that are filled up, prompts that share a beginning, and buffers that grow: faster, and never another text."""

from __future__ import annotations

import random
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner.texts import GeneratedText
from kpod.stages._lm import waiting_rows, writing_loop
from kpod.stages._lm.decoder_steps import CausalSteps, Prefix, rows_can_join
from kpod.stages._lm.decoding import Decoding, DecodingBatch, Row
from kpod.stages._lm.generation import Request
from kpod.stages._lm.loading import Limits, load_lm
from kpod.stages._lm.waiting_rows import common_prefix
from tests.stages.tiny_models import tiny_files
from tests.stages.tiny_texts import (
    CountingModel,
    requests_of,
    store_at,
    texts_of,
    tiny_lm,
)


def _many(num_prompts: int, *, shared: int = 0) -> list[Request]:
    """Prompts of 1 to 40 random tokens behind common ones."""
    draw = random.Random(5)
    before = tuple(draw.randrange(5, 150) for _ in range(shared))
    return [
        Request(
            prompt_ids=before + tuple(draw.randrange(5, 150) for _ in range(draw.randint(1, 40)))
        )
        for _ in range(num_prompts)
    ]


def _one_at_a_time(folder: Path, requests: list[Request], **settings: Any) -> list[GeneratedText]:
    with store_at(folder, "alone") as store:
        return texts_of(store, requests, batch_tokens=1, **settings)


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_batches_that_are_filled_up_write_the_same_texts(tmp_path: Path, architecture: str) -> None:
    requests, limits = _many(40), Limits(frozenset({2, *range(10, 16)}), 256)
    model = CountingModel(tiny_lm(architecture))
    with store_at(tmp_path) as store:
        found = texts_of(store, requests, model=model, limits=limits, batch_tokens=8 * 64)
    alone = _one_at_a_time(tmp_path, requests, model=tiny_lm(architecture), limits=limits)

    assert found == alone
    lengths = {text.completion_tokens for text in found}
    assert len(lengths) > 4, "rows end at different steps"
    # Rows joined those that were under way: more calls bring many tokens than there are batches of eight.
    assert max(model.num_rows) <= 64


def test_filling_up_takes_fewer_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests, limits = _many(40), Limits(frozenset({2, *range(10, 16)}), 256)
    num_calls = []
    for name, frac in (("filled", 0.75), ("not", -1.0)):
        monkeypatch.setattr(writing_loop, "_REFILL_AT_FRAC", frac)
        model = CountingModel(tiny_lm())
        with store_at(tmp_path, name) as store:
            texts_of(
                store, requests, model=model, limits=limits, batch_tokens=4 * 120,
                decoding=Decoding(max_new_tokens=80),
            )  # fmt: skip
        num_calls.append(len(model.num_rows))

    assert num_calls[0] < 0.8 * num_calls[1]


def test_a_batch_never_holds_more_rows_than_its_budget(tmp_path: Path) -> None:
    requests, limits = _many(40), Limits(frozenset({2, *range(10, 16)}), 256)
    budget, most = 300, 24 + 40
    model = CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        texts_of(store, requests, model=model, limits=limits, batch_tokens=budget)

    shortest = 24 + 1
    assert max(model.num_rows) <= budget // shortest
    assert model.num_rows[0] <= budget // most + 1


def test_samples_are_the_same_when_their_batch_is_filled_up(tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=16, temperature=1.0, top_p=0.9, seed=4)
    limits = Limits(frozenset({2, *range(10, 30)}), 256)
    requests = requests_of(samples=4)
    with store_at(tmp_path) as store:
        found = texts_of(store, requests, decoding=decoding, limits=limits, batch_tokens=200)
    alone = _one_at_a_time(tmp_path, requests, decoding=decoding, limits=limits)

    assert found == alone


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("batch_tokens", [300, 100_000])
def test_a_common_prefix_is_read_once_and_changes_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, batch_tokens: int
) -> None:
    # One call reads all prompts either way, so that both are padded alike.
    monkeypatch.setattr(writing_loop, "_PROMPT_TOKENS", 10**6)
    requests = _many(12, shared=48)
    found, num_tokens = [], []
    for name, shortest in (("once", 32), ("each", 10**6)):
        monkeypatch.setattr(waiting_rows, "_SHORTEST_PREFIX", shortest)
        model = CountingModel(tiny_lm(architecture))
        with store_at(tmp_path, name) as store:
            found.append(texts_of(store, requests, model=model, batch_tokens=batch_tokens))
        num_tokens.append(model.num_tokens)

    assert found[0] == found[1]
    # The prefix is read once and not by each of twelve.
    assert num_tokens[1] - num_tokens[0] > 10 * 48


def test_equal_prompts_of_many_samples_are_read_once(tmp_path: Path) -> None:
    (request,) = _many(1, shared=60)
    decoding = Decoding(max_new_tokens=4, temperature=1.0)
    requests = [Request(prompt_ids=request.prompt_ids, sample=sample) for sample in range(10)]
    model = CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        texts_of(store, requests, model=model, decoding=decoding, limits=Limits(frozenset(), 256))

    assert model.num_tokens == len(request.prompt_ids) - 1 + 10 * 4


def _counts_columns(name: str) -> Any:
    """A model to which two tokens are as far apart as their columns, whatever their position numbers."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM, MptConfig, MptForCausalLM

    torch.manual_seed(0)
    if name == "mpt":
        return MptForCausalLM(
            MptConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=160, initializer_range=0.3)
        ).eval()
    config = GPTNeoConfig(
        hidden_size=32, num_heads=4, num_layers=2, vocab_size=160, attention_types=[[["global", "local"], 1]],
        window_size=16, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return GPTNeoForCausalLM(config).eval()


@pytest.mark.parametrize("name", ["mpt", "gpt_neo"])
def test_a_common_prefix_changes_no_text_where_distances_are_counted_in_columns(
    tmp_path: Path, name: str
) -> None:
    model, found = _counts_columns(name), []
    for batch_tokens in (1, 100_000):
        with store_at(tmp_path, str(batch_tokens)) as store:
            found.append(
                texts_of(store, _many(12, shared=48), model=model, batch_tokens=batch_tokens)
            )

    assert found[0] == found[1]
    assert len({text.text for text in found[0]}) > 6


@given(
    st.lists(st.integers(0, 1), max_size=50),
    st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=5), max_size=6),
)
def test_the_common_prefix_begins_every_prompt_and_is_shorter_than_any(
    shared: list[int], tails: list[list[int]]
) -> None:
    prompts = [(*shared, *tail) for tail in tails]

    found = common_prefix(prompts)

    assert all(prompt[: len(found)] == found and len(prompt) > len(found) for prompt in prompts)
    assert found == () or len(found) >= 32
    if len(prompts) > 1 and len(shared) >= 32:
        assert len(found) >= len(shared)


def test_a_text_longer_than_the_spare_room_of_the_buffers_is_that_of_transformers() -> None:
    model, prompt = tiny_lm(), (5, 9, 31, 7)
    batch = DecodingBatch(
        model, [Row("a", prompt, 200), Row("b", prompt[:2], 150)], Decoding(max_new_tokens=200),
        pad_id=0, end_ids=[],
    )  # fmt: skip
    found: dict[str, list[int]] = {}
    while batch.num_rows:
        found |= {row.name: row.ids for row in batch.step()}

    ids = torch.tensor([prompt])
    said = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=200,
        do_sample=False,
        eos_token_id=[],
    )
    assert found["a"] == said[0, 4:].tolist()
    assert len(found["b"]) == 150


def test_rows_of_an_encoder_or_of_sliding_windows_do_not_join() -> None:
    from transformers import MistralConfig, MistralForCausalLM

    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    sliding = MistralForCausalLM(
        MistralConfig(vocab_size=20, num_key_value_heads=2, sliding_window=8, **shape)
    )

    t5 = load_lm(tiny_files("t5"), precision="fp32", device="cpu")
    assert [rows_can_join(model) for model in (tiny_lm(), t5, sliding)] == [True, False, False]


def test_sliding_windows_write_as_they_do_alone(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = MistralForCausalLM(
            MistralConfig(
                vocab_size=158, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, sliding_window=8, initializer_range=0.5,
            )
        ).eval()  # fmt: skip
    requests = _many(10, shared=40)
    with store_at(tmp_path) as store:
        found = texts_of(store, requests, model=model, batch_tokens=300)

    assert found == _one_at_a_time(tmp_path, requests, model=model)


def test_a_prefix_holds_one_row_and_gives_as_many_as_are_asked_for() -> None:
    prefix = Prefix(tiny_lm(), [5, 6, 7])

    assert prefix.cache_of(3).get_seq_length() == 3
    assert prefix.cache_of(3).layers[0].keys.shape[0] == 3


def test_what_rows_held_apart_goes_layer_by_layer_as_they_join() -> None:
    model = tiny_lm()
    with torch.inference_mode():
        first, late = (
            CausalSteps(model, [[5, 6, 7], [8, 9, 10]], pad_id=0, max_new=4) for _ in range(2)
        )
        for steps in (first, late):
            steps.next_logits(None)
        layers = late._cache.layers
        held = [weakref.ref(layer._key_buffer) for layer in layers]
        seen: list[list[bool]] = []
        second = first._cache.layers[1]
        take_in = second.take_in

        def spied(*args: Any, **settings: Any) -> None:
            seen.append([one() is None for one in held])
            take_in(*args, **settings)

        second.take_in = spied
        first.take_in([late])

    assert seen == [[True, False]]
    assert [one() is None for one in held] == [True, True]
