"""The processes that train one student together: who takes which micro-batch, and what they add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from kpod.runner import Interrupted

if TYPE_CHECKING:
    import torch

    from kpod.runner import Context

Sides = tuple[int, int]


class Team(Protocol):
    """Processes that hold the same weights and share every optimizer step.

    Attributes:
        size: how many there are.
        is_first: whether this one saves, reports and publishes.
    """

    @property
    def size(self) -> int: ...
    @property
    def is_first(self) -> bool: ...

    def share(
        self, groups: Sequence[list[int]], sides: Sequence[Sides]
    ) -> Iterator[tuple[int, list[int]]]:
        """The micro-batches of a step that this process computes, each with its number in the step.

        One without sequences has no loss, but must be computed: the others wait for it.

        Args:
            groups: the step's micro-batches, as indices into `sides`.
            sides: tokens that encoder and decoder read of each sequence.
        """

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place."""

    def sum_numbers(self, *values: float) -> tuple[float, ...]:
        """Each value, added up over all processes."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process."""

    def wait(self) -> None:
        """Until all processes are here."""


class Alone:
    """A team of one."""

    size = 1
    is_first = True

    def share(
        self,
        groups: Sequence[list[int]],
        sides: Sequence[Sides],  # noqa: ARG002 - a Team's
    ) -> Iterator[tuple[int, list[int]]]:
        """All of them."""
        yield from enumerate(groups)

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """They are what they are."""

    def sum_numbers(self, *values: float) -> tuple[float, ...]:
        """They are what they are."""
        return values

    def any(self, flag: bool) -> bool:
        """The own flag."""
        return flag

    def wait(self) -> None:
        """Nobody to wait for."""


def tell_progress(
    ctx: Context[Any], team: Team, done: int, total: int, facts: Mapping[str, float]
) -> None:
    """`ctx.progress` of a step; several processes agree on stopping, so that all of them stop after the same step.

    Args:
        ctx: where progress is told.
        team: of which only the first tells; all of them call this after every step.
        done: optimizer steps.
        total: of these.
        facts: shown beside.

    Raises:
        Interrupted: the run was asked to stop.
    """
    if team.size == 1:
        ctx.progress(done, total, unit="steps", **facts)
        return
    must_stop = team.any(ctx.should_stop)
    if team.is_first:
        with suppress(
            Interrupted
        ):  # a wish that came after the agreement is heard after the next step
            ctx.progress(done, total, unit="steps", **facts)
    if must_stop:
        raise Interrupted(f"the training was stopped at {done} of {total} steps")
