"""The same weights on other tokens: a control that keeps each rationale's mean weight and loses what it points at."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kpod.runner import Context, Input, Output, Stage, TokenWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """weighting.shuffled has no settings."""


class Shuffled(Stage[Config]):
    """Another stage's weights, permuted among the spans of each rationale."""

    uses = "weighting.shuffled"
    version = 1
    seeded = "recipe"
    determinism = "seeded"
    weights = Input(TokenWeights)
    shuffled = Output(TokenWeights)

    def run(self, ctx: Context[Config]) -> None:
        """Permute each rationale's weights by a stream of its own."""
        from kpod.stages.weighting._draws import stream

        num_rationales = num_moved = 0
        with ctx.write(self.shuffled) as out:
            for row in ctx.read(self.weights):
                weights = list(row.weights)
                stream(ctx.seed, "shuffled", row.rationale_id).shuffle(weights)
                out.add(replace(row, weights=tuple(weights)))
                num_rationales += 1
                num_moved += sum(a != b for a, b in zip(weights, row.weights, strict=True))
        ctx.note(
            "summary", f"{num_rationales:,} rationales; {num_moved:,} tokens have another's weight"
        )
