"""Weights drawn at random for each word: a control that knows nothing of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kpod.runner import Context, Input, Output, Rationale, Stage, TokenWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """weighting.random has no settings."""


class Random(Stage[Config]):
    """A weight between 0 and 1 for each word, all equally likely."""

    uses = "weighting.random"
    version = 1
    seeded = "recipe"
    determinism = "seeded"
    rationales = Input(Rationale)
    weights = Output(TokenWeights)

    def run(self, ctx: Context[Config]) -> None:
        """Draw for each rationale from a stream of its own; words are what white space separates."""
        from kpod.stages.weighting._draws import stream

        num_rationales = num_words = 0
        with ctx.write(self.weights) as out:
            for rationale in ctx.read(self.rationales):
                numbers = stream(ctx.seed, "random", rationale.id)
                spans = tuple(match.span() for match in re.finditer(r"\S+", rationale.text))
                weights = tuple(round(numbers.random(), 6) for _ in spans)
                out.add(TokenWeights(rationale_id=rationale.id, spans=spans, weights=weights))
                num_rationales += 1
                num_words += len(spans)
        ctx.note(
            "summary", f"{num_rationales:,} rationales; {num_words:,} words weigh a random number"
        )
