"""Nats of targets: exact for every vocabulary, block, piece and batch, for both families."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from kpod.stages._lm import likelihood
from kpod.stages._lm.likelihood import target_nll, token_nll
from kpod.stages._lm.parts import Parts, take_apart
from kpod.stages._lm.passages import EncoderIds, Passage


class Wrapped(torch.nn.Linear):
    """An output layer that is more than its rows (an adapter's, a quantised one)."""


def parts_of(head: torch.nn.Linear, *, scale: float = 1.0) -> Parts:
    return Parts(head, head, head, scale, None, "fp32")


@pytest.mark.parametrize("kind", [torch.nn.Linear, Wrapped])
@pytest.mark.parametrize(("num_rows", "num_targets"), [(1, 1), (37, 5), (1000, 70)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_blocks_of_the_vocabulary_give_what_all_logits_give(
    kind: type[torch.nn.Linear],
    num_rows: int,
    num_targets: int,
    has_bias: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(likelihood, "_CPU_LOGITS", 300)
    monkeypatch.setattr(likelihood, "_MOST_LOGITS", 5000)
    monkeypatch.setattr(likelihood, "_MOST_TARGETS", 32)
    torch.manual_seed(0)
    head = kind(8, num_rows, bias=has_bias)
    hidden_ND = torch.randn(num_targets, 8) * 4
    target_N = torch.randint(0, num_rows, (num_targets,))
    with torch.no_grad():
        actual = target_nll(parts_of(head, scale=0.5), hidden_ND, target_N)
        logits_NV = head(hidden_ND * 0.5).double()

    expected = torch.nn.functional.cross_entropy(logits_NV, target_N, reduction="none")
    assert torch.allclose(actual.double(), expected, atol=1e-5)
    assert actual.dtype == torch.float32
    assert bool((actual >= 0).all())


def test_large_and_absent_logits_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "_CPU_LOGITS", 2)
    head = torch.nn.Linear(1, 4)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([-math.inf, -math.inf, 3e4, 3e4]))
        parts, hidden = parts_of(head), torch.zeros(1, 1)
        assert float(target_nll(parts, hidden, torch.tensor([2]))) == pytest.approx(
            math.log(2), abs=1e-2
        )
        assert float(target_nll(parts, hidden, torch.tensor([0]))) == math.inf
        head.bias[1] = math.nan
        assert math.isnan(float(target_nll(parts, hidden, torch.tensor([2]))))


def test_logits_never_take_64_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    original = torch.nn.functional.linear

    def watched(*arguments: Any) -> torch.Tensor:
        nonlocal largest
        made = original(*arguments)
        largest = max(largest, made.numel() * 4)
        return made

    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    with torch.no_grad():
        for head in (torch.nn.Linear(2, 151_936), Wrapped(2, 151_936)):
            target_nll(parts_of(head), torch.zeros(130, 2), torch.zeros(130, dtype=torch.int64))
    assert 0 < largest <= 64 * 2**20


def tiny_causal() -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=90, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        head_dim=8, intermediate_size=32, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).eval()


def tiny_seq2seq() -> Any:
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    config = T5Config(
        vocab_size=90, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
        eos_token_id=1, pad_token_id=0, initializer_factor=0.5,
    )  # fmt: skip
    return T5ForConditionalGeneration(config).eval()


PASSAGES = tuple(
    Passage(tuple(range(3, 3 + context)), tuple(range(40, 40 + targets)), (1.0,) * targets)
    for context, targets in ((4, 3), (1, 1), (20, 2), (2, 20), (7, 7), (4, 3))
)


@pytest.mark.parametrize("make", [tiny_causal, tiny_seq2seq])
def test_order_and_values_do_not_depend_on_batching(make: Any) -> None:
    parts = take_apart(make(), precision="fp32", probe_ids=(5, 6))
    told: list[tuple[int, int]] = []
    whole = token_nll(
        parts, PASSAGES, batch_tokens=10_000, progress=lambda *told_now: told.append(told_now)
    )
    for size in (1, 13, 40):
        some = token_nll(parts, PASSAGES, batch_tokens=size, progress=lambda *_: None)
        for expected, actual in zip(whole, some, strict=True):
            assert actual == pytest.approx(expected, abs=1e-5)

    assert [len(row) for row in whole] == [len(passage.target_ids) for passage in PASSAGES]
    assert whole[0] == pytest.approx(whole[5], abs=1e-6)
    total = sum(passage.num_tokens for passage in PASSAGES)
    assert told == [(total, total)]
    assert token_nll(parts, [], batch_tokens=9, progress=lambda *_: None) == []


@pytest.mark.parametrize("make", [tiny_causal, tiny_seq2seq])
def test_nats_are_those_of_a_plain_call_of_the_model(make: Any) -> None:
    model = make()
    parts = take_apart(model, precision="fp32", probe_ids=(5, 6))
    for passage, actual in zip(
        PASSAGES, token_nll(parts, PASSAGES, batch_tokens=64, progress=lambda *_: None), strict=True
    ):
        given, said = list(passage.context_ids), list(passage.target_ids)
        with torch.no_grad():
            if parts.encoder is None:
                logits = model(input_ids=torch.tensor([given + said])).logits[
                    0, len(given) - 1 : -1
                ]
            else:
                assert parts.encoder == EncoderIds(start=0, end=1)
                logits = model(
                    input_ids=torch.tensor([[*given, 1]]), decoder_input_ids=torch.tensor([[0, *said[:-1]]])
                ).logits[0]  # fmt: skip
        expected = torch.nn.functional.cross_entropy(logits, torch.tensor(said), reduction="none")
        assert actual == pytest.approx(expected.tolist(), abs=1e-5)
