"""The training loop: optimizer steps over a fixed order, with exact resume.

It is ours because it is the method (DESIGN 7): token weights and the progressive cut enter through the examples, whose
passages change from epoch to epoch. The gradient of a step does not depend on how the step is split into micro-batches, and a training that was
stopped and continued ends with the same bits as one that was not.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import Interrupted, StageError
from kpod.stages._lm.encoding import Example
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Passage, pad
from kpod.stages._lm.training_state import load_state, save_state
from kpod.stages.student._batches import StepPlan, length_groups
from kpod.stages.student._loss import backward
from kpod.stages.student._norms import restore_norms
from kpod.stages.student._schedule import Schedule
from kpod.stages.student._settings import Normalise
from kpod.stages.student._tally import Tally

if TYPE_CHECKING:
    import torch

    from kpod.runner import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train.

    Args:
        plan: which examples every step reads.
        schedule: the learning rate of every step.
        normalise: what a step's sum of weighted token losses is divided by.
        weight_decay: AdamW's, on matrices only.
        grad_clip: largest gradient norm; longer gradients are scaled down; None: never.
        micro_batch_tokens: most tokens computed at once, padding included.
        checkpoint_every_s: seconds between checkpoints.
    """

    plan: StepPlan
    schedule: Schedule
    normalise: Normalise
    weight_decay: float
    grad_clip: float | None
    micro_batch_tokens: int
    checkpoint_every_s: float


class _Step(NamedTuple):
    loss: float
    denominator: float
    num_targets: int
    num_tokens: int
    num_padded: int


def train(
    ctx: Context[Any],
    student: Parts,
    examples: Sequence[Example],
    training: Training,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Train the student's parameters that require a gradient, in place.

    Args:
        ctx: its checkpoint folder is read first, and written every so often and before an interruption.
        student: the model, taken apart.
        examples: what the plan's indices mean.
        training: how.
        clock: seconds, for checkpoints and rates.

    Returns:
        What was done, over all attempts.

    Raises:
        StageError: a loss or gradient is not finite; the text names the step's examples.
        Interrupted: the run was asked to stop; the checkpoint is written.
    """
    parameters = _trainable(student)
    optimizer = _adamw(parameters, training, student)
    tally = Tally(**(load_state(ctx.checkpoint, parameters=parameters, optimizer=optimizer) or {}))
    saved_at = last = clock()
    student.model.train()
    with _own_random_numbers(student):
        while tally.step < training.plan.num_steps:
            batch = [examples[index] for index in training.plan.indices(tally.step)]
            done = _run_step(student, optimizer, batch, training, step=tally.step)
            now = clock()
            _count(tally, done, training.plan.epoch(tally.step), now - last)
            last = now
            is_saved = ctx.should_stop or now - saved_at >= training.checkpoint_every_s
            if is_saved:
                _save(ctx, tally, parameters, optimizer)
                saved_at = last = clock()
            try:
                _report(ctx, tally, done, training.plan.num_steps)
            except Interrupted:
                if not is_saved:
                    _save(ctx, tally, parameters, optimizer)
                raise
    student.model.eval()
    restore_norms(student.model)
    return tally


def _save(
    ctx: Context[Any],
    tally: Tally,
    parameters: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    save_state(
        ctx.checkpoint, asdict(tally), step=tally.step, parameters=parameters, optimizer=optimizer
    )


def _trainable(student: Parts) -> dict[str, torch.nn.Parameter]:
    """The parameters that require a gradient, by name: matrices first, as the optimizer's groups have them."""
    named = {name: value for name, value in student.model.named_parameters() if value.requires_grad}
    return dict(sorted(named.items(), key=lambda item: item[1].dim() < 2))


def _adamw(
    parameters: dict[str, torch.nn.Parameter], training: Training, student: Parts
) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices only, as is usual for language models."""
    import torch

    matrices = [value for value in parameters.values() if value.dim() > 1]
    vectors = [value for value in parameters.values() if value.dim() < 2]
    groups = [
        {"params": values, "weight_decay": decay}
        for values, decay in ((matrices, training.weight_decay), (vectors, 0.0))
        if values
    ]
    is_fused = student.device.type in {"cpu", "cuda"}
    return torch.optim.AdamW(groups, lr=0.0, fused=is_fused)


@contextmanager
def _own_random_numbers(student: Parts) -> Iterator[None]:
    """Dropout reads torch's global generators: whatever is done to them here is undone at the end."""
    import torch

    devices = [student.device] if student.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield


def _run_step(
    student: Parts,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Example],
    training: Training,
    *,
    step: int,
) -> _Step:
    """One optimizer step (from 0) over these examples."""
    import torch

    epoch = training.plan.epoch(step)
    passages = [example.passage(epoch) for example in batch]
    denominator = step_denominator(passages, training.normalise)
    groups = length_groups(
        [_sides(passage, student) for passage in passages],
        budget_tokens=training.micro_batch_tokens,
    )
    loss = torch.zeros((), device=student.device)
    num_padded = 0
    for number, group in enumerate(groups):
        torch.manual_seed(_step_seed(training.plan.seed, step, number))
        micro_batch = pad(
            [passages[index] for index in group], device=student.device, encoder=student.encoder
        )
        num_padded += micro_batch.num_computed
        loss += backward(student, micro_batch, denominator=denominator)
    limit = math.inf if training.grad_clip is None else training.grad_clip
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
    total = float(loss)
    if not (math.isfinite(total) and math.isfinite(norm)):
        raise _not_finite(total, norm, batch, training.plan, step)
    for group_of_parameters in optimizer.param_groups:
        group_of_parameters["lr"] = training.schedule.learning_rate(step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return _Step(
        total, denominator, sum(len(passage.target_ids) for passage in passages),
        sum(passage.num_tokens for passage in passages), num_padded,
    )  # fmt: skip


def step_denominator(passages: Sequence[Passage], normalise: Normalise) -> float:
    """What the weighted token losses of an optimizer step are divided by."""
    if normalise == "sequences":
        return len(passages)
    if normalise == "weights":
        return math.fsum(weight for passage in passages for weight in passage.weights)
    return sum(len(passage.target_ids) for passage in passages)


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
) -> StageError:
    ids = ", ".join(example.example_id for example in batch[:32])
    rest = f" and {len(batch) - 32} more" if len(batch) > 32 else ""
    return StageError(
        f"step {step + 1} of {plan.num_steps} (epoch {plan.epoch(step)}): loss {loss}, gradient norm {norm};"
        f" both must be finite, and the weights were left as they were\nexamples of this step: {ids}{rest}\n"
        "lower learning_rate, add warmup_frac, or set precision: fp32"
    )


def _count(tally: Tally, done: _Step, epoch: int, seconds: float) -> None:
    """Add a step to the tally."""
    if len(tally.epoch_nats) < epoch:
        tally.epoch_nats.append(0.0)
        tally.epoch_shares.append(0.0)
        tally.epoch_targets.append(0)
    tally.epoch_nats[-1] += done.loss * done.denominator
    tally.epoch_shares[-1] += done.denominator
    tally.epoch_targets[-1] += done.num_targets
    tally.processed_tokens += done.num_tokens
    tally.padded_tokens += done.num_padded
    tally.seconds += seconds
    tally.step += 1


def _report(ctx: Context[Any], tally: Tally, done: _Step, num_steps: int) -> None:
    rate = tally.processed_tokens / max(tally.seconds, 1e-9)
    ctx.progress(tally.step, num_steps, unit="steps", loss=done.loss, tokens_per_s=rate)
