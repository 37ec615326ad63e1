"""The loop of mask learning: optimizer steps over shuffled rationales, with exact resume.

Order, noise, prefixes and learning rate are functions of seed, epoch, step and rationale id, so a training that was stopped and
continued ends with the same bits as one that was not. Dropout is off: the mask is the only noise (our choice).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kpod.runner import Interrupted, StageError
from kpod.stages._lm.training_state import load_state, save_state
from kpod.stages.weighting._draws import Draw, draw, shuffled_order
from kpod.stages.weighting._items import Item
from kpod.stages.weighting._objective import Losses, Module, Objective, losses

if TYPE_CHECKING:
    import torch

    from kpod.runner import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How to train.

    Args:
        objective: what is minimised.
        seed: of order, noise and prefixes.
        epochs: passes over all rationales.
        batch_size: rationales an optimizer step.
        prefixes: how many are drawn of each rationale in each epoch; None: all.
        learning_rate: AdamW's highest, of the weighter.
        predictor_learning_rate: AdamW's highest, of the predictor and what leads to it.
        warmup_frac: share of all steps in which a learning rate rises from 0; after it, it falls to 0, linearly.
        head_start_frac: share of all steps, at the beginning, in which the predictor learns alone.
        grad_clip: largest gradient norm of each of the two; None: no limit.
        micro_batch_tokens: most tokens that the predictor computes at once, padding included.
        checkpoint_every_s: seconds between checkpoints.
    """

    objective: Objective
    seed: int
    epochs: int
    batch_size: int
    prefixes: int | None
    learning_rate: float
    predictor_learning_rate: float
    warmup_frac: float
    head_start_frac: float
    grad_clip: float | None
    micro_batch_tokens: int
    checkpoint_every_s: float


@dataclass(slots=True, kw_only=True)
class EpochTally:
    """Sums over one epoch.

    Args:
        nats: of the answer, over the drawn prefixes that end in the first, second, third, last quarter of their rationale.
        prefixes: how many these were.
        kept: tokens kept, over all rationales: the sum of L_m.
        tokens: tokens of all rationales.
        rationales: how many.
    """

    nats: list[float] = field(default_factory=lambda: [0.0] * 4)
    prefixes: list[int] = field(default_factory=lambda: [0] * 4)
    kept: float = 0.0
    tokens: int = 0
    rationales: int = 0

    def add(self, items: Sequence[Item], draws: Sequence[Draw], parts: Losses) -> None:
        """Count a batch."""
        ends = [(item.num_tokens, k) for item, one in zip(items, draws, strict=True) for k in one.prefixes]  # fmt: skip
        for (length, k), nats in zip(ends, parts.nats_G.detach().tolist(), strict=True):
            quarter = (4 * k - 1) // length
            self.nats[quarter] += nats
            self.prefixes[quarter] += 1
        self.kept += float(parts.kept_BN.detach().sum())
        self.tokens += sum(item.num_tokens for item in items)
        self.rationales += len(items)

    @property
    def quarters(self) -> list[float | None]:
        """Mean nats of the answer by quarter; None where no prefix ended there."""
        return [n / c if c else None for n, c in zip(self.nats, self.prefixes, strict=True)]


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was done, over all attempts."""

    step: int = 0
    seconds: float = 0.0
    epochs: list[EpochTally] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint."""
        from dataclasses import asdict

        return asdict(self)

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Tally:
        """What `to_json` wrote."""
        return cls(**{**row, "epochs": [EpochTally(**epoch) for epoch in row["epochs"]]})


def train(
    ctx: Context[Any],
    module: Module,
    items: Sequence[Item],
    training: Training,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Tally:
    """Train the module in place.

    Args:
        ctx: its checkpoint folder is read first, and written every so often and before an interruption.
        module: at its start.
        items: all rationales.
        training: how.
        clock: seconds.

    Raises:
        StageError: a loss or gradient is not finite; the text names the rationales of the step.
        Interrupted: the run was asked to stop; the checkpoint is written.
    """
    optimizer = _adamw(module)
    keeper = _Keeper(ctx, module, optimizer, training.checkpoint_every_s, clock)
    tally = keeper.tally
    size = training.batch_size
    steps_per_epoch = -(-len(items) // size)
    num_steps = steps_per_epoch * training.epochs
    while tally.step < num_steps:
        epoch, at = tally.step // steps_per_epoch + 1, tally.step % steps_per_epoch
        order = shuffled_order(len(items), seed=training.seed, epoch=epoch)
        batch = [items[index] for index in order[at * size : (at + 1) * size]]
        if len(tally.epochs) < epoch:
            tally.epochs.append(EpochTally())
        _set_rates(optimizer, training, tally.step, num_steps)
        loss = _step(module, optimizer, batch, training, tally=tally, epoch=epoch)
        keeper.count_step()
        keeper.report(loss, num_steps)
    return tally


class _Keeper:
    """Keeps the tally and writes the checkpoint: so often, and before the run stops."""

    def __init__(
        self,
        ctx: Context[Any],
        module: Module,
        optimizer: torch.optim.Optimizer,
        every_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._ctx, self._every_s, self._clock = ctx, every_s, clock
        self._parameters, self._optimizer = module.parameters, optimizer
        facts = load_state(ctx.checkpoint, parameters=self._parameters, optimizer=optimizer)
        self.tally = Tally() if facts is None else Tally.from_json(facts)
        self._saved_at = self._last = clock()
        self._saved_step = -1

    def count_step(self) -> None:
        """One step more; its seconds do not count what a checkpoint takes."""
        now = self._clock()
        self.tally.step += 1
        self.tally.seconds += now - self._last
        self._last = now
        if self._ctx.should_stop or now - self._saved_at >= self._every_s:
            self._save()

    def report(self, loss: float, num_steps: int) -> None:
        """Tell how far it is; whoever stops the run finds a checkpoint of this step."""
        try:
            self._ctx.progress(self.tally.step, num_steps, unit="steps", loss=loss)
        except Interrupted:
            if self._saved_step != self.tally.step:
                self._save()
            raise

    def _save(self) -> None:
        save_state(
            self._ctx.checkpoint, self.tally.to_json(), step=self.tally.step,
            parameters=self._parameters, optimizer=self._optimizer,
        )  # fmt: skip
        self._saved_step = self.tally.step
        self._saved_at = self._last = self._clock()


def _adamw(module: Module) -> torch.optim.AdamW:
    """AdamW over weighter and predictor, without weight decay (our choice: the paper names no optimizer for this module)."""
    import torch

    groups = [
        {"params": list(module.weighter.parameters.values())},
        {"params": list(module.predictor.parameters.values())},
    ]
    return torch.optim.AdamW(groups, lr=0.0, weight_decay=0.0, fused=True)


def _set_rates(
    optimizer: torch.optim.Optimizer, training: Training, step: int, num_steps: int
) -> None:
    """Learning rates of a step (from 0) of weighter and predictor; the weighter's schedule begins after the head start."""
    num_alone = math.floor(training.head_start_frac * num_steps)
    peaks = (
        (training.learning_rate, num_alone),
        (training.predictor_learning_rate, 0),
    )
    for group, (peak, first) in zip(optimizer.param_groups, peaks, strict=True):
        share = _rate_share(step - first, num_steps - first, training.warmup_frac)
        group["lr"] = peak * share


def _rate_share(step: int, num_steps: int, warmup_frac: float) -> float:
    """Share of the highest learning rate at a step from 0: rising in the warm-up, then falling to 0, both linearly."""
    num_warmup = math.ceil(warmup_frac * num_steps)
    if step < num_warmup:
        return max(0, step + 1) / num_warmup
    return (num_steps - step) / (num_steps - num_warmup) if step >= 0 else 0.0


def _step(
    module: Module,
    optimizer: torch.optim.Optimizer,
    batch: Sequence[Item],
    training: Training,
    *,
    tally: Tally,
    epoch: int,
) -> float:
    """One optimizer step; returns its loss."""
    import torch

    total = 0.0
    for group in length_groups(batch, training):
        draws = [
            draw(item.id, item.num_tokens, seed=training.seed, epoch=epoch, prefixes=training.prefixes)
            for item in group
        ]  # fmt: skip
        parts = losses(module, group, draws, training.objective)
        loss = parts.total(training.objective.alpha) / len(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
        tally.epochs[-1].add(group, draws, parts)
    limit = math.inf if training.grad_clip is None else training.grad_clip
    norms = [
        float(torch.nn.utils.clip_grad_norm_(list(values.values()), limit))
        for values in (module.weighter.parameters, module.predictor.parameters)
    ]
    if not all(map(math.isfinite, (total, *norms))):
        ids = ", ".join(item.id for item in batch[:32])
        raise StageError(
            f"step {tally.step + 1} (epoch {epoch}): loss {total}, gradient norms {norms[0]} (weighter) and"
            f" {norms[1]} (predictor); all must be finite, and the weights were left as they were\n"
            f"rationales of this step: {ids}{' …' if len(batch) > 32 else ''}\n"
            "lower learning_rate and predictor_learning_rate, or set precision: fp32"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def length_groups(batch: Sequence[Item], training: Training) -> list[list[Item]]:
    """A step's rationales, shortest first, in groups that are computed together."""
    groups: list[list[Item]] = []
    for item in sorted(batch, key=lambda item: (num_computed(item, training.prefixes), item.id)):
        row = num_computed(item, training.prefixes)
        if groups and (len(groups[-1]) + 1) * row <= training.micro_batch_tokens:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def num_computed(item: Item, prefixes: int | None) -> int:
    """Tokens that the predictor computes for a rationale in a packed row."""
    copies = item.num_tokens if prefixes is None else min(prefixes, item.num_tokens)
    return len(item.question_ids) + item.num_tokens + copies * (len(item.tail_ids) - 1)
