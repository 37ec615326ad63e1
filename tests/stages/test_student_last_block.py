"""The last layer's feed-forward block at target positions alone: the same loss and gradients, and all positions again for everybody else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch

from kpod.runner import StageError
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Batch, Passage, pad
from kpod.stages.student import _last_block, _loss
from kpod.stages.student._last_block import at_targets, targets_only_block, use_targets_only
from kpod.stages.student._loss import backward, take_apart
from kpod.stages.student._norms import restore_norms
from tests.stages.tiny_models import Tiny
from tests.stages.tiny_training import fresh, whole


def batch_of(student: Parts) -> Batch:
    """Two sequences of other lengths, a third of their tokens targets, of other weights."""
    passages = [
        Passage(tuple(range(3, 3 + length)), tuple(range(40, 44)), (1.0, 0.5, 0.0, 2.0))
        for length in (6, 9)
    ]
    return pad(passages, device=student.device, encoder=student.encoder)


def block_of(student: Parts) -> Any:
    return student.inner.get_decoder().layers[-1].mlp


def rows_seen(student: Parts, batch: Batch) -> list[int]:
    """How many positions each call of the block's last product was given."""
    seen: list[int] = []
    handle = block_of(student).down_proj.register_forward_hook(
        lambda _module, given, _output: seen.append(given[0].flatten(0, -2).shape[0])
    )
    backward(student, batch, denominator=3.0)
    handle.remove()
    return seen


def outcome(student: Parts, batch: Batch) -> list[torch.Tensor]:
    """The loss, and the gradient of all that trains."""
    torch.manual_seed(3)  # of dropout
    loss = backward(student, batch, denominator=3.0)
    gradients = [value.grad for value in student.model.parameters() if value.requires_grad]
    found = [value.detach().clone() for value in gradients if value is not None]
    assert len(found) == len(gradients) > 0
    student.model.zero_grad()
    return [loss, *found]


def up_matrices_that_count(student: Parts) -> Parts:
    """An adapter that is new multiplies by 0, and hides its other half's gradient."""
    with torch.no_grad():
        for name, value in student.model.named_parameters():
            if "lora_B" in name:
                value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(1)))
    return student


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("is_checkpointing", [False, True])
def test_loss_and_gradients_are_those_of_all_positions(
    architecture: Tiny, monkeypatch: pytest.MonkeyPatch, *, is_checkpointing: bool
) -> None:
    """In double precision, where nothing hides behind rounding."""
    monkeypatch.setattr(_loss, "_has_frozen_head", lambda _student: False)  # it computes in fp32
    student = whole("lora", architecture, is_checkpointing=is_checkpointing)
    student = up_matrices_that_count(student)
    student.model.double().train()
    batch = batch_of(student)
    seen = rows_seen(student, batch)
    student.model.zero_grad()

    actual = outcome(student, batch)
    _last_block.restore_blocks(student.model)
    expected = outcome(student, batch)

    assert seen == [8] * (2 if is_checkpointing else 1)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9 * float(other.abs().max()))


@pytest.mark.parametrize(("precision", "rounding"), [("fp32", 1e-4), ("bf16", 0.03)])
def test_in_the_precisions_of_training_as_well(precision: str, rounding: float) -> None:
    student = up_matrices_that_count(fresh(dropout=0.0, precision=precision))
    student.model.train()
    batch = batch_of(student)
    assert rows_seen(student, batch) == [8]
    student.model.zero_grad()

    actual = outcome(student, batch)
    restore_norms(student.model)
    expected = outcome(student, batch)

    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(
            one, other, rtol=rounding, atol=rounding * float(other.abs().max())
        )


def test_who_reads_the_student_outside_of_a_training_step_gets_every_position() -> None:
    student = up_matrices_that_count(fresh(dropout=0.0))
    batch = batch_of(student)
    student.model.eval()
    before = student.model(input_ids=batch.inputs).logits

    backward(student, batch, denominator=1.0)
    after = student.model(input_ids=batch.inputs).logits
    with suppress(StageError), at_targets(student, batch):
        inside = student.model(input_ids=batch.inputs).logits
        raise StageError("in the middle of a step")
    failed = student.model(input_ids=batch.inputs).logits
    restore_norms(student.model)

    assert torch.equal(before, after)
    assert torch.equal(before, failed)
    assert not torch.allclose(before, inside), "positions that no target stands at have no block"
    assert all("forward" not in vars(module) for module in student.model.modules())


def test_where_nearly_all_positions_are_targets_all_are_computed() -> None:
    student = fresh(dropout=0.0)
    passage = Passage((3,), tuple(range(40, 52)), (1.0,) * 12)
    batch = pad([passage], device=student.device, encoder=None)

    assert rows_seen(student, batch) == [13]


@pytest.mark.parametrize("architecture", ["qwen3", "t5"])
def test_students_that_train_whole_and_encoder_decoders_are_left_alone(architecture: Tiny) -> None:
    student = whole("full" if architecture == "qwen3" else "lora", architecture)

    changed = [module for module in student.model.modules() if _last_block._read_of(module)]  # fmt: skip
    assert changed == []


class Around(torch.nn.Module):
    """A block around another."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block


class Mixing(Around):
    """Its positions look at each other."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Each position, and the mean of all."""
        made: torch.Tensor = self.block(hidden)
        return made + made.mean(1, keepdim=True)


class Telling(Around):
    """As experts that tell their router's choice: Phi-MoE, Llama 4 and GPT-OSS in transformers 5.23."""

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, None]:
        """What it makes, and what it chose."""
        return self.block(hidden), None


def test_a_block_that_gives_more_than_hidden_states_is_left_alone() -> None:
    student = fresh(dropout=0.0)
    restore_norms(student.model)
    layer = student.inner.get_decoder().layers[-1]
    layer.mlp = Telling(layer.mlp)
    plain = type(layer).forward

    def forward(*given: Any, **named: Any) -> Any:
        """A layer that knows such a block."""
        block = layer.mlp
        layer.mlp = _First(block)
        try:
            return plain(layer, *given, **named)
        finally:
            layer.mlp = block

    layer.forward = forward
    use_targets_only(student, probe_ids=(1, 2, 3, 4, 5))

    assert "forward" not in vars(layer.mlp)
    assert student.hidden(batch_of(student)).shape[0] == 8


class _First(Around):
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.block(hidden)[0]
        return made


def test_a_block_whose_positions_look_at_each_other_is_left_alone() -> None:
    student = fresh(dropout=0.0)
    restore_norms(student.model)
    layer = student.inner.get_decoder().layers[-1]
    layer.mlp = Mixing(layer.mlp)

    use_targets_only(student, probe_ids=(1, 2, 3, 4, 5))
    assert "forward" not in vars(layer.mlp)

    layer.mlp = layer.mlp.block
    use_targets_only(student, probe_ids=(1, 2, 3, 4, 5))
    assert "forward" in vars(layer.mlp)


def test_one_token_tells_nothing_and_changes_nothing() -> None:
    student = fresh(dropout=0.0)
    assert targets_only_block(student) is not None
    restore_norms(student.model)

    one = take_apart(student.model, precision="fp32", probe_ids=(1,))

    assert targets_only_block(one) is None
