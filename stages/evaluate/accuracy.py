"""How often a model is right: greedy answers to held-out questions, each model asked with the prompt it was trained with.

Scores come with n and a 95 % interval, and beside the two rules of lm-eval, so that they can be compared with published ones
(PRACTICE 5). A text that was cut at the token limit is wrong, whatever it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Input,
    Metric,
    Model,
    Output,
    Prediction,
    Question,
    SettingError,
    Stage,
)
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


class Accuracy(Stage[Config]):
    """Predictions and a score for every model."""

    uses = "evaluate.accuracy"
    version = 1
    by_question = True
    libraries = ("peft", "torch", "transformers")
    models = Input(Model, each=True)
    questions = Input(Question, role="test")
    predictions = Output(Prediction)
    metrics = Output(Metric)

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
        """Ask the model every question once, and score what it says."""
        from kpod.stages._lm.artifact import locate
        from kpod.stages._lm.judging import check_gold
        from kpod.stages.evaluate._scoring import prediction, said, score, summary

        questions = list(ctx.read(self.questions))
        check_gold(questions)
        files = locate(ctx, self.models)
        texts = said(ctx, files, questions)
        predictions = [
            prediction(question, text, model=files.digest)
            for question, text in zip(questions, texts, strict=True)
        ]
        metric = score(questions, predictions, model=files.digest, data=ctx.digest(self.questions))
        with ctx.write(self.predictions) as out:
            for one in predictions:
                out.add(one)
        with ctx.write(self.metrics) as out_metrics:
            out_metrics.add(metric)
        interval = {"accuracy": metric.accuracy, "low": metric.low, "high": metric.high}
        ctx.note("accuracy", {**interval, "n": metric.n})
        ctx.note("summary", summary(metric))
