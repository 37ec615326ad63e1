"""What `kpod inspect-batch` shows: the very tokens, labels and weights that a student is trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from kpod.runner.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedToken:
    """One token of a training sequence.

    Args:
        id: token id.
        text: what it decodes to, alone.
        is_target: whether the loss reads it.
        weight: its share of the loss; 0 where it is no target.
    """

    id: int
    text: str
    is_target: bool
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedExample:
    """One training sequence.

    Args:
        example_id: id of the rationale, or of the question where there is no rationale.
        tokens: prompt and completion, in the order the student sees them.
        has_evaluation_prompt: whether the context tokens are exactly those that evaluation sends.
    """

    example_id: str
    tokens: tuple[InspectedToken, ...]
    has_evaluation_prompt: bool


@runtime_checkable
class Inspectable(Protocol):
    """A stage that can show what it would train on."""

    def inspect(self, ctx: Context[Any], *, limit: int, epoch: int) -> Iterator[InspectedExample]:
        """The first `limit` training sequences of an epoch (from 1), in training order."""
