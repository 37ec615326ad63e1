"""Which step breaks first: a model that was wrong is given more and more of the question's own solution, until it ends right.

For each wrong question with a solution of s >= 2 steps the first c = 1 … s - 1 steps are given behind the prompt, as a
progressive curriculum gives steps to a student (KPOD Sec. 3.4: before the model's own text; at the end of what an encoder
reads), and the model goes on greedily. The smallest c after which it is right names the step that broke: behind c - 1 steps it
is wrong, and once it has step c it goes on by itself (an earlier step may have been wrong too). Where it is wrong behind all
but the last step, no step is named: the last one breaks, or the answer. Only what the model writes itself is read for its
answer. Source: our choice; the paper counts right answers alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from kpod.runner import (
    Breakpoint,
    Context,
    Doc,
    Ge,
    Input,
    Model,
    Output,
    Question,
    SettingError,
    Stage,
)
from kpod.runner.capability import Capability
from kpod.stages._lm.examples import Example
from kpod.stages._lm.precision import resolve_precision
from kpod.stages._lm.prompts import PromptConfig
from kpod.stages._lm.quantised import QuantisationSetting
from kpod.stages._lm.steps import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How models are asked: as in evaluate.accuracy, whose texts are then found and not written again."""

    limit: Annotated[
        int,
        Doc(
            "At most so many wrong questions are looked at, drawn by a hash of their ids: each costs as many texts as its "
            "solution has steps, less one. 200 is our choice: a share of 200 is known to 7 points (Wilson, 95 %)."
        ),
        Ge(1),
    ] = 200
    steps: Rule = "sentence"
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
        Doc("A text of such a model ends before the first of these."),
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


class FirstError(Stage[Config]):
    """The first broken step of every model's wrong answers."""

    uses = "evaluate.first_error"
    version = 1
    libraries = ("peft", "torch", "transformers")
    models = Input(Model, each=True)
    questions = Input(Question, role="test")
    breakpoints = Output(Breakpoint)

    @classmethod
    def libraries_of(cls, config: Config) -> tuple[str, ...]:
        """Bitsandbytes too, where it holds the weights."""
        return cls.libraries if config.quantisation == "none" else (*cls.libraries, "bitsandbytes")

    @classmethod
    def shown(cls, config: Config) -> tuple[str, ...]:
        """The questions that are shown as examples."""
        return tuple(example.question for example in config.base_examples)

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision by the machine and the model's width."""
        precision = resolve_precision(config.precision, capability, models["models"])
        return replace(config, precision=precision)

    def run(self, ctx: Context[Config]) -> None:
        """Ask the model every question, and again with the first steps of its solution where it was wrong.

        Raises:
            StageError: no question has a gold answer and a solution of two steps or more, or the model's prompt has no
                reasoning that could be given.
        """
        from kpod.stages._lm.artifact import locate
        from kpod.stages._lm.judging import check_gold
        from kpod.stages.evaluate._first_error import find_breaks, note_breaks

        questions = list(ctx.read(self.questions))
        check_gold(questions)
        found = find_breaks(ctx, locate(ctx, self.models), questions)
        with ctx.write(self.breakpoints) as out:
            for row in found.rows:
                out.add(row)
        note_breaks(ctx, found)
