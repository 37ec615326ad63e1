"""The faster RMS norm computes what transformers' does, forward and backward, and goes away after training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from kpod.stages._lm.loading import load_causal_lm
from kpod.stages.student._norms import restore_norms, use_fast_norms
from tests.stages.tiny_models import tiny_files


def outcome(norm: Any, hidden: torch.Tensor, upstream: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input, gradient of the weight."""
    norm.zero_grad()
    leaf = hidden.clone().requires_grad_()
    output = norm(leaf)
    output.backward(upstream)
    assert leaf.grad is not None
    return [output.detach(), leaf.grad, norm.weight.grad.clone()]


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 999), scale=st.sampled_from([1e-4, 1.0, 100.0]), width=st.integers(8, 40)
)
def test_output_and_gradients_equal_those_of_transformers(
    seed: int, scale: float, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, 3, width, generator=generator) * scale
    upstream = torch.randn(2, 3, width, generator=generator)
    norm: Any = Qwen3RMSNorm(width)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(width, generator=generator))

    expected = outcome(norm, hidden, upstream)
    use_fast_norms(norm, device="cpu")
    actual = outcome(norm, hidden, upstream)

    for one, other in zip(actual, expected, strict=True):
        # fp32 rounding of sums of at most 40 terms, relative to the largest of them
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_a_gpus_norm_gives_what_transformers_gives_in_the_precision_of_its_input(held: Any) -> None:
    norm: Any = Qwen3RMSNorm(32).to(held)
    torch.manual_seed(0)
    torch.nn.init.normal_(norm.weight)
    hidden, upstream = torch.randn(2, 2, 5, 32).to(torch.bfloat16)

    expected = outcome(norm, hidden, upstream.to(held))
    use_fast_norms(norm, device="cuda")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = outcome(norm, hidden, upstream)

    assert actual[0].dtype == torch.bfloat16
    for one, other in zip(actual, expected, strict=True):
        # bf16 has 8 bits; a weight's gradient is a sum of 10
        torch.testing.assert_close(
            one.float(), other.float(), rtol=0.02, atol=0.02 * float(other.abs().max())
        )


def test_a_frozen_weight_gets_no_gradient() -> None:
    norm: Any = Qwen3RMSNorm(4)
    norm.weight.requires_grad_(False)
    use_fast_norms(norm, device="cpu")
    hidden = torch.ones(2, 4, requires_grad=True)

    norm(hidden).sum().backward()

    assert norm.weight.grad is None
    assert hidden.grad is not None


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_after_training_a_model_is_as_transformers_made_it(architecture: Any) -> None:
    model: Any = load_causal_lm(tiny_files(architecture), precision="fp32", device="cpu")
    norms = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]

    use_fast_norms(model, device="cpu")
    assert all("forward" in vars(norm) for norm in norms)
    restore_norms(model)

    assert norms
    assert not any("forward" in vars(norm) for norm in norms)
