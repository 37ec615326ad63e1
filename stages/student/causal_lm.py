"""Train a decoder-only student (Qwen, Llama, SmolLM, …) on verified rationales, or on answers alone.

Standard chain-of-thought distillation, Eq. 1 of KPOD: the mean negative log-likelihood of rationale, answer and end
token, given the question. What a student reads is decided by `prompt`, which goes into its model.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Gt,
    Input,
    InspectedExample,
    Le,
    Model,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
    Volatile,
)
from kpod.stages._lm.precision import resolve_precision
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages.student._adapter import Lora
from kpod.stages.student._schedule import ScheduleName

if TYPE_CHECKING:
    from kpod.runner.capability import Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How the student is trained."""

    prompt: Annotated[PromptConfig, Doc("What the student reads and says; cot or answer_only.")] = (
        field(default_factory=PromptConfig)
    )
    method: Annotated[
        Literal["lora", "full"], Doc("lora: an adapter on the frozen model; full: all weights.")
    ] = "lora"
    lora: Annotated[Lora, Doc("Size and place of the adapter; only with method lora.")] = field(
        default_factory=Lora
    )
    epochs: Annotated[int, Doc("Passes over all sequences."), Ge(1)] = 3
    max_steps: Annotated[
        int | None,
        Doc("Optimizer steps after which training ends, if the epochs last longer."),
        Ge(1),
    ] = None
    batch_size: Annotated[
        int, Doc("Sequences an optimizer step; the last step of an epoch takes the rest."), Ge(1)
    ] = 16
    learning_rate: Annotated[float, Doc("Highest learning rate of AdamW."), Gt(0)] = 2e-4
    schedule: Annotated[
        ScheduleName, Doc("The learning rate after the warm-up: constant, or falling to 0.")
    ] = "cosine"
    warmup_frac: Annotated[
        float, Doc("Share of all steps in which the learning rate rises from 0."), Ge(0), Le(1)
    ] = 0.03
    weight_decay: Annotated[float, Doc("AdamW's weight decay, on matrices only."), Ge(0)] = 0.0
    grad_clip: Annotated[
        float | None, Doc("Largest norm of a step's gradient; null: no limit."), Gt(0)
    ] = 1.0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the model computes in; auto: bf16 where this machine is faster with it."),
    ] = "auto"
    saved_precision: Annotated[
        Literal["fp32", "bf16"],
        Doc("What the weights of method full are stored in; an adapter is stored in fp32."),
    ] = "fp32"
    micro_batch_tokens: Annotated[
        int, Doc("Most tokens computed at once, padding included; bounds the memory."), Ge(1)
    ] = 4096
    max_length: Annotated[
        int | None, Doc("Most tokens a sequence may have; null: the model's context."), Ge(2)
    ] = None
    on_too_long: Annotated[
        Literal["error", "drop"],
        Doc("What to do with longer sequences: stop, or leave them out and say so."),
    ] = "error"
    gradient_checkpointing: Annotated[
        bool,
        Doc("Compute activations twice instead of keeping them: less memory, more time."),
        Volatile(),
    ] = False
    checkpoint_every_s: Annotated[
        float,
        Doc("Seconds between checkpoints, from which a killed run goes on."),
        Ge(0),
        Volatile(),
    ] = 60.0

    def __post_init__(self) -> None:
        if self.method == "full" and self.lora != Lora():
            raise SettingError(
                "lora", "method full has no adapter", hint="set method: lora, or drop it"
            )
        if self.method == "lora" and self.saved_precision != "fp32":
            raise SettingError(
                "saved_precision",
                "an adapter is stored in fp32",
                hint="set method: full, or drop it",
            )


class CausalLm(Stage[Config]):
    """A language model trained on the questions that have a verified rationale."""

    uses = "student.causal_lm"
    version = 1
    seeded = "recipe"
    libraries = ("torch", "transformers", "peft")
    model = Input(Model)
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    student = Output(Model)

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision auto, by the width of the model and what the machine is fast at."""
        precision = resolve_precision(config.precision, capability, models["model"])
        return replace(config, precision=precision)

    def run(self, ctx: Context[Config]) -> None:
        """Encode, train from the checkpoint if there is one, and write the student."""
        from kpod.stages.student._distil import distil

        distil(ctx, self)

    def inspect(self, ctx: Context[Config], *, limit: int) -> Iterator[InspectedExample]:
        """The first sequences of the first epoch, encoded as `run` encodes them."""
        from kpod.stages.student._distil import inspect_examples

        yield from inspect_examples(ctx, self, limit=limit)
