"""What stages that ask models test questions have in common: how they ask, and what bears on the answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from kpod.runner import Doc, Ge, Input, Model, Question, SettingError, Stage
from kpod.runner.capability import Capability
from kpod.stages._lm.examples import Example
from kpod.stages._lm.precision import resolve_precision
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages._lm.quantised import QuantisationSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How models are asked."""

    max_new_tokens: Annotated[
        int,
        Doc("Longest text, in the model's tokens; a longer one is cut and counts as wrong."),
        Ge(1),
    ] = 256
    base_prompt: Annotated[
        PromptConfig,
        Doc("The prompt of models that were not trained with one; others use their own."),
    ] = field(default_factory=PromptConfig)
    base_examples: Annotated[
        tuple[Example, ...],
        Doc(
            "Solved examples shown to models that were not trained with a prompt, before every question."
        ),
    ] = ()
    base_stop: Annotated[
        tuple[str, ...],
        Doc(
            "A text of such a model ends before the first of these; after examples in a plain prompt it may go on with a "
            'question of its own: "\\n\\nQ:" stops it.'
        ),
    ] = ()
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the model computes in; auto: bf16 where that is faster."),
    ] = "auto"
    quantisation: QuantisationSetting = "none"
    batch_tokens: Annotated[
        int,
        Doc("Tokens of prompts and texts held at once: more is faster and takes more memory."),
        Ge(1),
    ] = 16384

    def __post_init__(self) -> None:
        if "" in self.base_stop:
            raise SettingError(
                "base_stop", "holds an empty text, before which every text ends", hint="take it out"
            )


AskingT = TypeVar("AskingT", bound=Config)


class Asking(Stage[AskingT]):
    """A stage that asks each model every test question."""

    libraries = ("peft", "torch", "transformers")
    models = Input(Model, each=True)
    questions = Input(Question, role="test")

    @classmethod
    def version_of(cls, config: AskingT) -> int | None:
        """Version 2 leaves an adapter beside weights that are rounded to bf16, where too little of it would be left."""
        return cls.version if config.precision == "bf16" else 1

    @classmethod
    def libraries_of(cls, config: AskingT) -> tuple[str, ...]:
        """Bitsandbytes too, where it holds the weights."""
        return cls.libraries if config.quantisation == "none" else (*cls.libraries, "bitsandbytes")

    @classmethod
    def shown(cls, config: AskingT) -> tuple[str, ...]:
        """The questions that are shown as examples."""
        return tuple(example.question for example in config.base_examples)

    @classmethod
    def resolve(
        cls, config: AskingT, capability: Capability, models: Mapping[str, Path]
    ) -> AskingT:
        """Precision by the machine and the model's width."""
        precision = resolve_precision(config.precision, capability, models["models"])
        return replace(config, precision=precision)
