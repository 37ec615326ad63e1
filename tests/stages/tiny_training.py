"""Twelve sequences, a tiny model and nine optimizer steps: for tests of the training loop itself."""

from __future__ import annotations

from typing import Any

import torch

from kpod.stages._lm.completions import Completion
from kpod.stages._lm.encoding import Example
from kpod.stages._lm.loading import load_causal_lm, load_lm
from kpod.stages._lm.parts import Parts
from kpod.stages.student._adapter import Lora, add_lora
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._loss import take_apart
from kpod.stages.student._schedule import Schedule
from kpod.stages.student._training import Training
from tests.stages.tiny_models import Tiny, tiny_files


def example(number: int, *, prompt: int, targets: int) -> Example:
    """Ids that a random model can neither know nor confuse."""
    ids = tuple((number * 31 + place * 7) % 150 for place in range(prompt + targets))
    return Example(
        example_id=f"example-{number}", question_id="q", prompt_ids=ids[:prompt],
        completion=Completion(
            ids=ids[prompt:], parts=("rationale",) * targets, spans=(None,) * targets
        ),
        weights=(1.0,) * targets,
    )  # fmt: skip


EXAMPLES = [example(n, prompt=3 + n % 4, targets=5 + n * 3 % 11) for n in range(12)]


def fresh(*, dropout: float | None = None, precision: str = "fp32") -> Parts:
    """The tiny model, taken apart; with an adapter where a dropout is given."""
    model: Any = load_causal_lm(tiny_files(), precision="fp32", device="cpu")
    if dropout is not None:
        model = add_lora(model, Lora(rank=4, dropout=dropout), seed=5)
    return take_apart(model, precision=precision, probe_ids=(1, 2, 3))


def whole(method: str, architecture: Tiny, *, is_checkpointing: bool = False) -> Parts:
    """A tiny model that trains whole, or with an adapter, without dropout: T5's masks belong to a micro-batch, which several processes may cut."""
    model: Any = load_lm(tiny_files(architecture), precision="fp32", device="cpu")
    model.requires_grad_(True)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        elif isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    if is_checkpointing:
        model.activation_checkpointing_enable()
    if method == "lora":
        model = add_lora(model, Lora(rank=3), seed=5)
    return take_apart(model, precision="fp32", probe_ids=(1, 2, 3))


def training(
    *, micro_batch_tokens: int = 4096, every_s: float = 1e9, steps: int = 9, peak: float = 1e-2
) -> Training:
    """Three epochs of three steps."""
    plan = StepPlan(num_examples=len(EXAMPLES), batch_size=5, num_steps=steps, seed=2)
    return Training(
        plan=plan,
        schedule=Schedule(name="cosine", peak=peak, warmup_frac=0.1, num_steps=plan.num_steps),
        normalise="targets", weight_decay=0.01, grad_clip=1.0, micro_batch_tokens=micro_batch_tokens, checkpoint_every_s=every_s,
    )  # fmt: skip


def weights(student: Parts) -> dict[str, torch.Tensor]:
    """What trains, as it is now."""
    return {
        name: value.detach().clone()
        for name, value in student.model.named_parameters()
        if value.requires_grad
    }
