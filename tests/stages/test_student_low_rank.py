"""The faster LoRA layers and the gradient behind a frozen head are peft's and autograd's, and go away after training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model

from kpod.stages._lm.loading import load_causal_lm, load_lm
from kpod.stages._lm.passages import Passage, pad
from kpod.stages.student import _loss
from kpod.stages.student._adapter import Lora, add_lora
from kpod.stages.student._low_rank import restore_adapters, use_fast_adapters
from kpod.stages.student._norms import restore_norms
from tests.stages.tiny_models import Tiny, tiny_files


def adapted(*, has_bias: bool = False, **settings_of_peft: Any) -> Any:
    """One linear layer 7 -> 5 with an adapter whose two matrices are not 0."""
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Linear(7, 5, bias=has_bias))
    made: Any = get_peft_model(
        plain,  # type: ignore[arg-type]
        LoraConfig(**{"r": 3, "lora_alpha": 5.0, "target_modules": ["0"], **settings_of_peft}),
    )
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape))
    return made


def fast_layers(model: Any) -> list[str]:
    """Names of the layers that compute in another way than their class says."""
    return [
        name
        for name, module in model.named_modules()
        if "forward" in vars(module) and "lora" in type(module).__module__
    ]


def outcome(model: Any, hidden: torch.Tensor, upstream: torch.Tensor) -> list[torch.Tensor]:
    """Output, gradient of the input, gradients of what trains."""
    model.zero_grad()
    torch.manual_seed(7)  # of dropout
    leaf = hidden.clone().requires_grad_()
    output = model(leaf)
    output.backward(upstream)
    gradients = [value.grad.clone() for value in model.parameters() if value.requires_grad]
    assert leaf.grad is not None
    return [output.detach(), leaf.grad, *gradients]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 999),
    shape=st.sampled_from([(4,), (2, 3), (1, 2, 2)]),
    has_bias=st.booleans(),
    rslora=st.booleans(),
    dropout=st.sampled_from([0.0, 0.4]),
)
def test_output_and_gradients_equal_those_of_peft(
    seed: int, shape: tuple[int, ...], has_bias: bool, rslora: bool, dropout: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = adapted(has_bias=has_bias, use_rslora=rslora, lora_dropout=dropout).train()
    hidden = torch.randn(*shape, 7, generator=generator)
    upstream = torch.randn(*shape, 5, generator=generator)

    expected = outcome(model, hidden, upstream)
    use_fast_adapters(model)
    assert fast_layers(model)
    actual = outcome(model, hidden, upstream)

    for one, other in zip(actual, expected, strict=True):
        # fp32 rounding of sums of at most 12 terms, relative to the largest of them
        torch.testing.assert_close(one, other, rtol=1e-6, atol=2e-6 * float(other.abs().max()))


def test_over_half_precision_weights_it_is_peft_under_autocast_but_for_rounding() -> None:
    model = adapted(has_bias=True)
    with torch.no_grad():
        model.base_model.model[0].base_layer.to(torch.bfloat16)
    hidden, upstream = torch.randn(6, 7).bfloat16(), torch.randn(6, 5).bfloat16()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = outcome(model, hidden, upstream)
        use_fast_adapters(model)
        assert fast_layers(model)
        actual = outcome(model, hidden, upstream)

    assert [value.dtype for value in actual] == [
        torch.bfloat16,
        torch.bfloat16,
        torch.float32,
        torch.float32,
    ]
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(
            one.float(), other.float(), rtol=0.02, atol=0.02 * float(other.abs().max())
        )


def test_gradients_are_those_of_the_formula_in_double_precision() -> None:
    from kpod.stages.student._low_rank import _linear

    torch.manual_seed(0)
    leaves = [
        torch.randn(*shape, dtype=torch.float64, requires_grad=is_trained)
        for shape, is_trained in (((2, 3, 7), True), ((2, 3, 7), True), ((5, 7), False), ((5,), False), ((3, 7), True), ((5, 3), True))
    ]  # fmt: skip

    assert torch.autograd.gradcheck(lambda *values: _linear().apply(*values, 1.7), leaves)
    without = [leaves[0], None, *leaves[2:]]
    assert torch.autograd.gradcheck(lambda *values: _linear().apply(*values, 1.7), without)


@pytest.mark.parametrize(
    "settings_of_peft",
    [{"use_dora": True}, {"lora_bias": True}],
    ids=["dora", "bias"],
)
def test_what_is_more_than_two_matrices_is_left_to_peft(settings_of_peft: dict[str, Any]) -> None:
    model = adapted(has_bias=True, **settings_of_peft)

    use_fast_adapters(model)

    assert fast_layers(model) == []


def test_half_precision_adapters_and_second_ones_are_left_to_peft() -> None:
    half, two = adapted().to(torch.bfloat16), adapted()
    two.add_adapter("second", LoraConfig(r=2, target_modules=["0"]))

    use_fast_adapters(half)
    use_fast_adapters(two)

    assert fast_layers(half) == fast_layers(two) == []


def test_an_adapter_that_is_merged_or_switched_off_meanwhile_counts_so() -> None:
    model = adapted()
    hidden = torch.randn(4, 7)
    expected = model(hidden).detach()
    with model.disable_adapter():
        without = model(hidden).detach()
    use_fast_adapters(model)

    with model.disable_adapter():
        torch.testing.assert_close(model(hidden), without)
    model.merge_adapter()
    torch.testing.assert_close(model(hidden), expected)


def test_nothing_is_kept_of_an_input_that_needs_no_gradient() -> None:
    model = adapted()
    use_fast_adapters(model)
    hidden = torch.randn(4, 7)

    model(hidden).sum().backward()

    assert hidden.grad is None
    assert all(value.grad is not None for value in model.parameters() if value.requires_grad)


def student_of(architecture: Tiny) -> Any:
    """A tiny student with an adapter, its head frozen, every matrix of the adapter other than 0."""
    model = add_lora(
        load_lm(tiny_files(architecture), precision="fp32", device="cpu"), Lora(rank=2), seed=0
    )
    torch.manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            if value.requires_grad:
                value.copy_(torch.randn(value.shape) * 0.1)
    # T5 drops out while it trains
    return _loss.take_apart(model.eval(), precision="fp32", probe_ids=(3, 4, 5)), model


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "t5"])
def test_loss_and_gradients_of_a_frozen_head_are_those_of_autograd(
    architecture: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, model = student_of(architecture)
    batch = pad(
        [Passage((5, 6, 7), (8, 9, 10, 3), (1.0, 0.5, 0.0, 2.0)), Passage((9,), (4, 3), (1.0, 1.0))],
        device=student.device, encoder=student.encoder,
    )  # fmt: skip

    def done() -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss = float(_loss.backward(student, batch, denominator=6))
        return loss, [value.grad.clone() for value in model.parameters() if value.requires_grad]

    whole = done()
    monkeypatch.setattr(_loss, "_MAX_LOGITS", student.output_layer.weight.shape[0])
    pieces = done()
    monkeypatch.setattr(_loss, "_has_frozen_head", lambda _: False)
    restore_norms(model)
    expected = done()

    for loss, gradients in (whole, pieces):
        assert loss == pytest.approx(expected[0], rel=1e-6)
        for one, other in zip(gradients, expected[1], strict=True):
            # measured on T5: autograd's own fp32 gradients are 2e-5 of the largest away from those in fp64, as these are
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


def test_a_target_that_the_model_thinks_impossible_has_a_finite_loss() -> None:
    student, _ = student_of("qwen3")
    with torch.no_grad():
        student.output_layer.weight.mul_(1e4)
    batch = pad([Passage((5, 6), (7, 8), (1.0, 1.0))], device=student.device)

    loss = _loss.backward(student, batch, denominator=2)

    assert 100 < float(loss) < float("inf")


def test_a_head_that_trains_is_left_to_autograd() -> None:
    model = load_causal_lm(tiny_files("qwen3"), precision="fp32", device="cpu")
    student = _loss.take_apart(model, precision="fp32", probe_ids=(3, 4, 5))

    assert not _loss._has_frozen_head(student)
    assert fast_layers(model) == []


def test_after_training_a_model_is_as_peft_made_it() -> None:
    _, model = student_of("qwen3")
    assert len(fast_layers(model)) == 14

    restore_norms(model)

    assert fast_layers(model) == []
    use_fast_adapters(model)
    restore_adapters(model)
    assert fast_layers(model) == []


@pytest.mark.parametrize("held", [torch.float32, torch.bfloat16])
def test_under_autocast_a_layer_computes_in_bf16_whatever_it_is_held_in(held: torch.dtype) -> None:
    model, hidden = adapted(has_bias=True), torch.randn(4, 7)
    for parameter in model.base_model.model[0].base_layer.parameters():
        parameter.data = parameter.data.to(held)
    expected = outcome(model, hidden, torch.ones(4, 5))[0] if held == torch.float32 else None
    use_fast_adapters(model)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(hidden.to(held))

    assert found.dtype == torch.bfloat16
    if expected is not None:
        assert torch.allclose(found.float(), expected, atol=0.1, rtol=0.02)
