"""What a stage would ask for and pay, told before it runs: `kpod plan` prints it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from kpod.runner.context import Context


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is to be written, as far as it can be known.

    Args:
        num_texts: texts that the stage needs.
        num_stored: of them, those that are stored already; None where finding out costs too much.
        prompt_tokens, completion_tokens: of the texts that are missing; None where unknown.
        usd: what they would cost; None without a price.
        basis: where the figures come from, for people: "mean of 1,200 texts of this endpoint", "upper bound".
    """

    num_texts: int
    num_stored: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    usd: float | None
    basis: str


@runtime_checkable
class Forecasting(Protocol):
    """A stage that can tell what it would ask for."""

    def forecast(self, ctx: Context[Any]) -> Forecast:
        """What `run` would ask for now; reads inputs and stored texts, writes and sends nothing."""
