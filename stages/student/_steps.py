"""How many optimizer steps a training has: by epochs, or by the target tokens that another arm is trained on.

Source: DESIGN 7, fair comparison: at equal steps, or at equal target tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import NamedTuple

from kpod.stages._lm.encoding import Example
from kpod.stages._lm.example_file import ExampleFile
from kpod.stages.student._batches import StepPlan


def steps_of_epochs(
    num_examples: int, *, batch_size: int, epochs: int, max_steps: int | None
) -> int:
    """Optimizer steps of so many passes; each pass ends with what is left."""
    steps = -(-num_examples // batch_size) * epochs
    return steps if max_steps is None else min(steps, max_steps)


class Spent(NamedTuple):
    """A budget of target tokens and what a training makes of it.

    Args:
        budget: target tokens to train on, counted whatever their weight.
        num_steps: optimizer steps whose total is nearest; at least one.
        num_targets: target tokens of these steps.
    """

    budget: int
    num_steps: int
    num_targets: int


def target_budget(shares: Iterable[tuple[Sequence[int], int]]) -> int:
    """Target tokens of all epochs of a curriculum.

    Args:
        shares: for each example, where its targets begin at each epoch, and the tokens of its completion.
    """
    return sum(total * len(firsts) - sum(firsts) for firsts, total in shares)


def steps_within(budget: int, examples: Sequence[Example], plan: StepPlan) -> Spent:
    """The steps of a plan (its own number of steps is ignored) whose target tokens are nearest to a budget."""
    done = 0
    for step in count():
        more = sum(_num_targets(examples, index, plan.epoch(step)) for index in plan.indices(step))
        is_over = budget - done < done + more - budget
        if is_over and step:
            return Spent(budget, step, done)
        done += more
        if done >= budget:
            return Spent(budget, step + 1, done)
    raise AssertionError("every step has targets")


def _num_targets(examples: Sequence[Example], index: int, epoch: int) -> int:
    """Target tokens of one example; a file tells them without reading the rest of it."""
    if isinstance(examples, ExampleFile):
        return examples.num_targets(index, epoch)
    return examples[index].num_targets(epoch)
