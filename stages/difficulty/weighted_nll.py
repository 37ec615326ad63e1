"""How hard each step of a rationale is for the student before any distillation (KPOD Sec. 3.4, Eq. 8).

    d_k = sum over the tokens j of step k of softmax(w)_j * -log P(r_j | r_<j, question)

The rationale is read as training will read it: teacher-forced and unmasked, behind the question in the same prompt. The
softmax runs within the step, so d_k is a weighted mean in nats a token, whatever the step's length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from kpod.runner import (
    Context,
    Difficulty,
    Doc,
    Ge,
    Input,
    Model,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
    TokenWeights,
)
from kpod.stages._lm.precision import resolve_precision
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages._lm.steps import Rule

if TYPE_CHECKING:
    from kpod.runner.capability import Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a step is, and how it is read."""

    steps: Rule = "sentence"
    prompt: Annotated[
        PromptConfig,
        Doc("What stands around the rationale: the prompt that the student will be trained with."),
    ] = field(default_factory=PromptConfig)
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the model computes in; auto: bf16 where this machine is faster with it."),
    ] = "auto"
    batch_tokens: Annotated[
        int, Doc("Most tokens computed at once, padding included; bounds the memory."), Ge(1)
    ] = 4096
    max_length: Annotated[
        int | None,
        Doc(
            "Most tokens that question and rationale may have together (each, with an encoder-decoder); "
            "null: the model's context."
        ),
        Ge(2),
    ] = None

    def __post_init__(self) -> None:
        if not self.prompt.resolve().has_rationale:
            raise SettingError(
                "prompt",
                f"a prompt without a rationale ({self.prompt.name}) has no steps to measure",
                hint="set name: cot, or a template with {rationale}",
            )


class WeightedNll(Stage[Config]):
    """Nats a token of every step, weighted by the tokens' significance where `weights` is wired, else all alike."""

    uses = "difficulty.weighted_nll"
    version = 2
    libraries = ("peft", "torch", "transformers")
    model = Input(Model)
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    weights = Input(TokenWeights, optional=True)
    difficulty = Output(Difficulty)

    @classmethod
    def version_of(cls, config: Config) -> int | None:
        """Version 2 leaves an adapter beside weights that are rounded to bf16, where too little of it would be left."""
        return cls.version if config.precision == "bf16" else 1

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision by the machine and the model's width."""
        precision = resolve_precision(config.precision, capability, models["model"])
        return replace(config, precision=precision)

    def run(self, ctx: Context[Config]) -> None:
        """Measure every step of every rationale."""
        from kpod.stages.difficulty._measured import measure

        measure(ctx, self)
