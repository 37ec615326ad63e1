"""Weights by rule: numbers and signs of arithmetic count in full, all else little. A control that learns nothing.

Source: KPOD Fig. 2 shows that mask learning weighs digits and operators most; this says it outright.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Context, Doc, Ge, Input, Le, Output, Rationale, Stage, TokenWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of weighting.rules."""

    other: Annotated[
        float, Doc("Weight of all that is no number and no sign of arithmetic; our choice."), Ge(0), Le(1)
    ] = 0.1  # fmt: skip


class Rules(Stage[Config]):
    """Weight 1 on digits and operators, `other` on the rest."""

    uses = "weighting.rules"
    version = 1
    determinism = "pure"
    rationales = Input(Rationale)
    weights = Output(TokenWeights)

    def run(self, ctx: Context[Config]) -> None:
        """Write the stretches of each rationale, by character."""
        from kpod.stages.weighting._numbers import number_stretches

        num_rationales = num_numbers = 0
        with ctx.write(self.weights) as out:
            for rationale in ctx.read(self.rationales):
                found = number_stretches(rationale.text)
                out.add(
                    TokenWeights(
                        rationale_id=rationale.id,
                        spans=tuple(span for span, _ in found),
                        weights=tuple(1.0 if is_number else ctx.config.other for _, is_number in found),
                    )
                )  # fmt: skip
                num_rationales += 1
                num_numbers += sum(is_number for _, is_number in found)
        ctx.note(
            "summary",
            f"{num_rationales:,} rationales; {num_numbers:,} stretches of digits and operators weigh 1,"
            f" all else {ctx.config.other:g}",
        )
