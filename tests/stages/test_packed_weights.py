"""Packed weights: the same products and texts, from less than twice the memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from kpod.stages._lm import packed_weights
from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.packed_weights import pack_weights
from tests.stages.tiny_models import Tiny, tiny_files


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "t5"])
def test_a_packed_model_says_what_it_said(
    architecture: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_weights, "_SMALLEST", 1)
    model: Any = load_lm(tiny_files(architecture), precision="fp32", device="cpu")
    packed = copy.deepcopy(model)
    if pack_weights(packed) == 0:
        pytest.skip("this build of torch has no oneDNN")
    ids = torch.tensor([[5, 6, 7, 2], [8, 9, 10, 2]])

    with torch.inference_mode():
        logits = [
            one(
                input_ids=ids, **({"decoder_input_ids": ids} if architecture == "t5" else {})
            ).logits
            for one in (model, packed)
        ]
    said = [
        one.generate(ids, max_new_tokens=16, do_sample=False).tolist() for one in (model, packed)
    ]

    # fp32 sums of up to 64 products in another order.
    assert torch.allclose(logits[0], logits[1], atol=1e-4)
    assert said[0] == said[1]


def test_small_layers_and_other_precisions_stay_as_they_are() -> None:
    small = load_lm(tiny_files(), precision="fp32", device="cpu")
    half = torch.nn.Sequential(torch.nn.Linear(600, 600)).to(torch.bfloat16)
    half.device = torch.device("cpu")  # type: ignore[assignment]

    assert [pack_weights(small), pack_weights(half)] == [0, 0]


def test_a_packed_layer_holds_its_weight_once() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(600, 600))
    layer.device = torch.device("cpu")  # type: ignore[assignment]
    inputs = torch.randn(3, 600)
    expected = layer(inputs)
    if pack_weights(layer) == 0:
        pytest.skip("this build of torch has no oneDNN")

    # 600 products of size about 1/25 each.
    assert torch.allclose(layer(inputs), expected, atol=1e-5)
    assert layer[0].weight.shape == (600, 600)
    assert layer[0].weight.untyped_storage().nbytes() == 4
