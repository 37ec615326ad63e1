"""Which sequences an optimizer step reads, and how they are split into micro-batches of like length.

A step is a fixed number of sequences from a permutation that is a function of seed and epoch; length groups only split
a step, so the order of training does not depend on them (DESIGN 7). B sequences, T tokens, N targets.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kpod.stages._lm.encoding import Example

if TYPE_CHECKING:
    import torch

# What one more micro-batch costs, in tokens: 11 ms at 20,000 tokens/s, measured on the tiny model of the quickstart
# (d 96, 2 layers, one thread of a Cascade Lake); larger models pay relatively less.
_MICRO_BATCH_COST_TOKENS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The order of training: which examples every optimizer step reads.

    Args:
        num_examples: training sequences.
        batch_size: sequences an optimizer step; the last step of an epoch takes what is left.
        epochs: passes over all sequences.
        max_steps: ends training earlier; None: never.
        seed: of the permutations.
    """

    num_examples: int
    batch_size: int
    epochs: int
    max_steps: int | None
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of a whole epoch."""
        return -(-self.num_examples // self.batch_size)

    @property
    def num_steps(self) -> int:
        """Optimizer steps of the whole training."""
        steps = self.steps_per_epoch * self.epochs
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def epoch(self, step: int) -> int:
        """The epoch, from 1, that a step (from 0) belongs to."""
        return step // self.steps_per_epoch + 1

    def indices(self, step: int) -> tuple[int, ...]:
        """Which examples a step (from 0) reads, in order."""
        order = epoch_order(self.num_examples, seed=self.seed, epoch=self.epoch(step))
        start = step % self.steps_per_epoch * self.batch_size
        return order[start : start + self.batch_size]


@lru_cache(maxsize=2)
def epoch_order(num_examples: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """A permutation of the examples that depends on seed and epoch alone."""
    digest = hashlib.sha256(f"kpod order {seed} {epoch}".encode()).digest()
    order = list(range(num_examples))
    random.Random(int.from_bytes(digest[:8], "big")).shuffle(order)  # noqa: S311 - order, not secrets
    return tuple(order)


def length_groups(lengths: Sequence[int], *, budget_tokens: int) -> list[list[int]]:
    """Split the sequences of a step into groups that are padded together.

    The split is the cheapest one into runs of the sequences sorted by length: padded tokens, plus a fixed cost a
    group, under the budget. A sequence longer than the budget stands alone.

    Args:
        lengths: tokens of each sequence, >= 1.
        budget_tokens: most tokens of a group, padding included.

    Returns:
        Indices into `lengths`, longest group last; every index once.
    """
    order = sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    cost = [0] + [0] * len(order)
    first_of = [0] * (len(order) + 1)
    for stop in range(1, len(order) + 1):
        longest = lengths[order[stop - 1]]
        choices = [
            (cost[start] + (stop - start) * longest + _MICRO_BATCH_COST_TOKENS, start)
            for start in range(stop)
            if (stop - start) * longest <= budget_tokens or stop - start == 1
        ]
        cost[stop], first_of[stop] = min(choices)
    groups: list[list[int]] = []
    stop = len(order)
    while stop:
        groups.append(order[first_of[stop] : stop])
        stop = first_of[stop]
    return groups[::-1]


class MicroBatch(NamedTuple):
    """Sequences padded on the right; causal attention never looks at what follows, so no mask is needed.

    Args:
        inputs: (B, T) int64 token ids, 0 where padded.
        positions: (N,) int64, where in the flattened B*T the hidden state stands that predicts each target.
        targets: (N,) int64 ids to predict.
        weights: (N,) float32 share of the loss of each target, >= 0.
    """

    inputs: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def pad(examples: Sequence[Example], *, device: torch.device) -> MicroBatch:
    """The tensors of a group of sequences."""
    import torch

    width = max(example.num_tokens for example in examples)
    rows: list[list[int]] = []
    positions: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for row, example in enumerate(examples):
        ids = [*example.prompt_ids, *example.completion.ids]
        rows.append(ids + [0] * (width - len(ids)))
        # Position t predicts token t + 1, so the state before the first completion token predicts it.
        first = row * width + len(example.prompt_ids) - 1
        for offset, (token, is_target, weight) in enumerate(
            zip(example.completion.ids, example.is_target, example.weights, strict=True)
        ):
            if is_target:
                positions.append(first + offset)
                targets.append(token)
                weights.append(weight)
    return MicroBatch(
        torch.tensor(rows, device=device),
        torch.tensor(positions, device=device),
        torch.tensor(targets, device=device),
        torch.tensor(weights, dtype=torch.float32, device=device),
    )
