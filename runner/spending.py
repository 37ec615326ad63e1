"""What a run spent on endpoints, and what it did not have to: told in one line at its end, and archived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kpod.runner.ledger import Ledger, LedgerTotals

if TYPE_CHECKING:
    from kpod.runner.execute import Execution, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """Money and requests of one run.

    Args:
        totals: what the ledger has of it.
        saved_texts: that stages found stored instead of asking for them.
        saved_usd: what those would have cost, and what results that were there already once did.
    """

    totals: LedgerTotals
    saved_texts: int
    saved_usd: float

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            **self.totals.to_json(),
            "saved_texts": self.saved_texts,
            "saved_usd": self.saved_usd,
        }

    def __str__(self) -> str:
        totals = self.totals
        tokens = f"{totals.prompt_tokens:,} tokens in, {totals.completion_tokens:,} out"
        money = (
            "no price is set"
            if totals.unpriced and totals.unpriced == totals.answered
            else f"{totals.usd:,.4f} USD"
        )
        parts = [f"spent {money} on {totals.answered:,} answered requests ({tokens})"]
        for number, what in (
            (totals.failed, "failed"),
            (totals.unknown + totals.in_flight, "sent and never answered, perhaps paid"),
        ):
            if number:
                parts.append(f"{number:,} {what}")
        if self.saved_texts or self.saved_usd:
            parts.append(
                f"the store saved {self.saved_usd:,.4f} USD ({self.saved_texts:,} texts were there)"
            )
        return "; ".join(parts)


def spending_of(execution: Execution) -> Spending | None:
    """What a run spent; None where it asked no endpoint."""
    ran = [outcome for outcome in execution.outcomes.values() if outcome.status == "run"]
    asks = bool(ran) or len(execution.outcomes) < len(execution.planner.units)
    totals = Ledger(execution.store.texts).totals(run=execution.run_name) if asks else None
    if totals is None or totals.requests == 0:
        return None
    saved = [_saved(outcome) for outcome in execution.outcomes.values()]
    return Spending(
        totals=totals,
        saved_texts=sum(texts for texts, _ in saved),
        saved_usd=sum(usd for _, usd in saved),
    )


def _saved(outcome: Outcome) -> tuple[int, float]:
    """Texts and USD that a unit had from the store: its note `saved`, and what it once cost where it was not executed now."""
    notes = outcome.entry.manifest.notes
    noted = notes.get("saved")
    saved: dict[str, Any] = noted if isinstance(noted, dict) else {}
    usd = float(saved.get("usd") or 0.0)
    if outcome.status != "run":
        usd += float(notes.get("usd") or 0.0)
    return int(saved.get("texts") or 0), usd
