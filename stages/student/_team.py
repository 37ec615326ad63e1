"""The processes that train one student together: who takes which micro-batch, and what they add up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


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

    def share(self, groups: Sequence[list[int]]) -> Iterator[tuple[int, list[int]]]:
        """The micro-batches of a step that this process computes, each with its number in the step."""

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

    def share(self, groups: Sequence[list[int]]) -> Iterator[tuple[int, list[int]]]:
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
