"""Every token counts in full: the arm without significance (KPOD Table 2, w.o.-sig), and standard distillation's weights."""

from __future__ import annotations

from dataclasses import dataclass

from kpod.runner import Context, Input, Output, Rationale, Stage, TokenWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """weighting.uniform has no settings."""


class Uniform(Stage[Config]):
    """Weight 1 over the whole text of every rationale."""

    uses = "weighting.uniform"
    version = 1
    determinism = "pure"
    rationales = Input(Rationale)
    weights = Output(TokenWeights)

    def run(self, ctx: Context[Config]) -> None:
        """Write one span a rationale; none where its text is empty."""
        num_rationales = 0
        with ctx.write(self.weights) as out:
            for rationale in ctx.read(self.rationales):
                size = len(rationale.text)
                spans = ((0, size),) if size else ()
                out.add(
                    TokenWeights(
                        rationale_id=rationale.id, spans=spans, weights=(1.0,) * len(spans)
                    )
                )
                num_rationales += 1
        ctx.note("summary", f"{num_rationales:,} rationales; every token weighs 1")
