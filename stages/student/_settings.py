"""How a student is trained, whatever its family."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from kpod.runner import Added, Doc, Ge, Gt, Le, SettingError, Volatile
from kpod.stages._lm.precision import QUANTISED
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages.student._adapter import Lora
from kpod.stages.student._schedule import ScheduleName
from kpod.stages.student._validate import Validate

Normalise = Literal["targets", "sequences", "weights"]
OptimizerName = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of a student."""

    prompt: Annotated[PromptConfig, Doc("What the student reads and says; cot or answer_only.")] = (
        field(default_factory=PromptConfig)
    )
    method: Annotated[
        Literal["lora", "full"], Doc("lora: an adapter on the frozen model; full: all weights.")
    ] = "lora"
    lora: Annotated[Lora, Doc("Size and place of the adapter; only with method lora.")] = field(
        default_factory=Lora
    )
    epochs: Annotated[
        int | None,
        Doc("Passes over all sequences; null where the input `budget` says when training ends."),
        Ge(1),
    ] = 3
    max_steps: Annotated[
        int | None,
        Doc("Optimizer steps after which training ends, if the epochs last longer."),
        Ge(1),
    ] = None
    batch_size: Annotated[
        int, Doc("Sequences an optimizer step; the last step of an epoch takes the rest."), Ge(1)
    ] = 16
    normalise: Annotated[
        Normalise,
        Doc(
            "What an optimizer step's sum of weighted token losses is divided by. targets: its target tokens, "
            "weights ignored; sequences: its sequences (KPOD Eq. 15 is a sum, at a fixed batch); weights: the sum of "
            "its weights, so that the answer's share rises as the others' weights fall."
        ),
    ] = "targets"
    optimizer: Annotated[
        OptimizerName,
        Doc(
            "AdamW with moments in fp32, or in 8 bits (bitsandbytes; a matrix of under 4,096 values keeps them in fp32); paged: "
            "they may be moved to main memory when a GPU's own runs short, which means nothing on a CPU."
        ),
        Added(),
    ] = "adamw"
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
        Literal["auto", "fp32", "bf16", "nf4", "nf4_double", "int8"],
        Doc(
            "What the model computes in: fp32, bf16, or auto: what this machine is fastest with and has the memory for; or, "
            "under a LoRA, how the frozen weights are held: nf4 (4 bits), nf4_double (its scales quantised too) or int8."
        ),
    ] = "auto"
    compute: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What quantised weights are computed with; auto: as precision auto would."),
        Added(),
    ] = "auto"
    saved_precision: Annotated[
        Literal["fp32", "bf16"],
        Doc("What the weights of method full are stored in; an adapter is stored in fp32."),
    ] = "fp32"
    micro_batch_tokens: Annotated[
        int | Literal["auto"],
        Doc(
            "Most tokens computed at once, padding included; bounds the memory. auto: 4096, or less where the forecast says "
            "that these do not fit."
        ),
        Ge(1),
    ] = "auto"
    memory_gb: Annotated[
        float | None,
        Doc("Memory that training may take, in GB; null: 80 % of the device's."),
        Gt(0),
        Volatile(),
    ] = None
    max_length: Annotated[
        int | None, Doc("Most tokens a sequence may have; null: the model's context."), Ge(2)
    ] = None
    on_too_long: Annotated[
        Literal["error", "drop"],
        Doc("What to do with longer sequences: stop, or leave them out and say so."),
    ] = "error"
    gradient_checkpointing: Annotated[
        bool | Literal["auto"],
        Doc(
            "Compute activations twice instead of keeping them: less memory, more time. auto: where the forecast needs it."
        ),
        Volatile(),
    ] = "auto"
    validate: Annotated[
        Validate,
        Doc("How the student is judged while it trains; only where `validation` is wired."),
        Added(),
    ] = field(default_factory=Validate)
    trackers: Annotated[
        tuple[Literal["tensorboard", "wandb", "mlflow"], ...],
        Doc("Where the training is told as it goes, beside the archive."),
        Volatile(),
    ] = ()
    checkpoint_every_s: Annotated[
        float,
        Doc("Seconds between checkpoints, from which a killed run goes on."),
        Ge(0),
        Volatile(),
    ] = 60.0

    @property
    def computes_in_bf16(self) -> bool:
        """Whether products are made in bf16, once every `auto` is resolved."""
        return (self.compute if self.precision in QUANTISED else self.precision) == "bf16"

    def __post_init__(self) -> None:
        is_quantised = self.precision in QUANTISED
        if is_quantised and self.method == "full":
            raise SettingError(
                "precision",
                f"weights held as {self.precision} cannot train",
                hint="set method: lora, or precision: auto, fp32 or bf16",
            )
        if self.precision == "int8" and self.lora.dora:
            raise SettingError(
                "precision",
                "int8 and lora.dora do not go together: peft loses the scales of 8-bit weights",
                hint="set precision: nf4 or nf4_double, or lora.dora: false",
            )
        if not is_quantised and self.compute != "auto":
            raise SettingError(
                "compute",
                f"only quantised weights are computed in another type than they are held in, but precision is {self.precision}",
                hint=f"set precision: {self.compute}, or one of {', '.join(QUANTISED)}, or drop compute",
            )
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
