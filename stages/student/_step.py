"""One optimizer step: which micro-batches it is split into, their gradients, one update.

The gradient does not depend on how the step is split, nor on how many processes share it (DESIGN 7).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import StageError
from kpod.stages._lm.encoding import Example
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Passage, pad
from kpod.stages.student._batches import StepPlan, length_groups
from kpod.stages.student._settings import Normalise
from kpod.stages.student._training import Training

if TYPE_CHECKING:
    from kpod.stages.student._team import Team
    from kpod.stages.student._update import Update


class Step(NamedTuple):
    """What an optimizer step did, over all processes.

    Args:
        loss: in nats: sum of weighted token losses over the denominator.
        denominator: what `normalise` says.
        num_targets: tokens that the loss read.
        num_tokens: tokens of context and targets, without padding.
        num_padded: tokens computed, with padding.
        grad_norm: of the whole gradient, before it was clipped.
        learning_rate: of this step.
    """

    loss: float
    denominator: float
    num_targets: int
    num_tokens: int
    num_padded: int
    grad_norm: float
    learning_rate: float


class NotFinite(StageError):
    """A step whose loss or gradient is no number; the weights are as they were.

    Args:
        said: what a person reads.
        example_ids: of the whole step.
    """

    def __init__(self, said: str, example_ids: Sequence[str]) -> None:
        super().__init__(said)
        self.example_ids = tuple(example_ids)


def run_step(
    student: Parts,
    update: Update,
    batch: Sequence[Example],
    training: Training,
    *,
    step: int,
    team: Team,
) -> Step:
    """One optimizer step over these examples.

    Args:
        student: in training mode.
        update: of its trainable parameters.
        batch: the examples of this step, the same on every process.
        training: how.
        step: from 0.
        team: the processes that share the step.

    Raises:
        NotFinite: the loss or the gradient is not; the text names the examples.
    """
    import torch

    epoch = training.plan.epoch(step)
    passages = [example.passage(epoch) for example in batch]
    denominator = step_denominator(passages, training.normalise)
    sides = [_sides(passage, student) for passage in passages]
    groups = length_groups(sides, budget_tokens=training.micro_batch_tokens)
    loss = torch.zeros((), device=student.device)
    num_padded = 0
    for number, group in team.share(groups, sides):
        torch.manual_seed(_step_seed(training.plan.seed, step, number))
        chosen = [passages[index] for index in group] or [_nothing(passages)]
        micro_batch = pad(chosen, device=student.device, encoder=student.encoder)
        num_padded += micro_batch.num_computed
        loss += update.backward(micro_batch, denominator=denominator)
    total, padded = team.sum_numbers(float(loss), num_padded)
    rate = training.schedule.learning_rate(step)
    norm = update.apply(rate, is_wanted=math.isfinite(total))
    if not (math.isfinite(total) and math.isfinite(norm)):
        raise _not_finite(total, norm, batch, training.plan, step)
    return Step(
        total, denominator, sum(len(passage.target_ids) for passage in passages),
        sum(passage.num_tokens for passage in passages), int(padded), norm, rate,
    )  # fmt: skip


def step_denominator(passages: Sequence[Passage], normalise: Normalise) -> float:
    """What the weighted token losses of an optimizer step are divided by."""
    if normalise == "sequences":
        return len(passages)
    if normalise == "weights":
        return math.fsum(weight for passage in passages for weight in passage.weights)
    return sum(len(passage.target_ids) for passage in passages)


def _nothing(passages: Sequence[Passage]) -> Passage:
    """The shortest there can be, whose loss counts nothing."""
    return Passage(passages[0].context_ids[:1], passages[0].target_ids[:1], (0.0,))


def _sides(passage: Passage, student: Parts) -> tuple[int, int]:
    """Tokens that encoder and decoder read of a passage."""
    if student.encoder is None:
        return 0, passage.num_tokens
    return len(passage.context_ids) + 1, len(passage.target_ids)


def _step_seed(seed: int, step: int, micro_batch: int) -> int:
    """Dropout's seed: a function of where training stands, so that a resumed training draws the same numbers."""
    digest = hashlib.sha256(f"kpod dropout {seed} {step} {micro_batch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _not_finite(
    loss: float, norm: float, batch: Sequence[Example], plan: StepPlan, step: int
) -> NotFinite:
    ids = ", ".join(example.example_id for example in batch[:32])
    rest = f" and {len(batch) - 32} more" if len(batch) > 32 else ""
    return NotFinite(
        f"step {step + 1} of {plan.num_steps} (epoch {plan.epoch(step)}): loss {loss}, gradient norm {norm};"
        f" both must be finite, and the weights were left as they were\nexamples of this step: {ids}{rest}\n"
        "lower learning_rate, add warmup_frac, or set precision: fp32",
        [example.example_id for example in batch],
    )
