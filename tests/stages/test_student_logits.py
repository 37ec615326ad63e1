"""Logits are made in pieces, so that a large vocabulary costs no memory, and the gradient is that of the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Passage, pad
from kpod.stages.student import _loss


class LargestTensor(TorchDispatchMode):
    """Remembers the most numbers that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for value in made if isinstance(made, tuple | list) else [made]:
            if isinstance(value, torch.Tensor):
                self.numel = max(self.numel, value.numel())
        return made


def large_vocabulary() -> Parts:
    """Width 8, one layer, the vocabulary of Qwen2.5."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    made: Any = Qwen2ForCausalLM
    model = made(
        Qwen2Config(
            vocab_size=151_936, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=1,
            num_key_value_heads=1, tie_word_embeddings=True,
        )
    )  # fmt: skip
    return _loss.take_apart(model, precision="fp32", probe_ids=(2, 3, 4))


def batch_of_targets(count: int) -> Any:
    passage = Passage((2, 3), tuple(range(4, 4 + count)), (1.0,) * count)
    return pad([passage], device=torch.device("cpu"))


@pytest.mark.slow
def test_logits_of_4096_targets_and_a_vocabulary_of_151936_are_never_whole() -> None:
    student = large_vocabulary()
    with LargestTensor() as largest:
        _loss.backward(student, batch_of_targets(4096), denominator=4096)

    assert largest.numel <= 1 << 24


def test_logits_in_pieces_give_the_gradient_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    student = large_vocabulary()
    batch = batch_of_targets(150)

    def gradients() -> tuple[float, dict[str, torch.Tensor]]:
        student.model.zero_grad()
        loss = float(_loss.backward(student, batch, denominator=150))
        return loss, {name: value.grad for name, value in student.model.named_parameters()}

    with LargestTensor() as largest:
        loss, pieces = gradients()
    assert largest.numel <= 1 << 24
    monkeypatch.setattr(_loss, "_MAX_LOGITS", 1 << 30)
    whole_loss, whole = gradients()

    # Sums in another order: single precision leaves 1e-6 of the largest number.
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient, rtol=1e-4, atol=1e-7)
