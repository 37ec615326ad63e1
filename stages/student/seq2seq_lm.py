"""Train an encoder-decoder student (the Flan-T5 family) on verified rationales, or on answers alone.

As student.causal_lm, with the question in the encoder and the rationale in the decoder. Steps that a curriculum gives go
to the encoder, after the question (KPOD Fig. 1: question and steps 1 to c under Input, the rest under Output). fp16 is not
offered: T5's feed-forward layers overflow in it (transformers issue 9295).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kpod.runner import (
    Context,
    Curriculum,
    Input,
    InspectedExample,
    Model,
    Output,
    Question,
    Rationale,
    Stage,
    TokenWeights,
)
from kpod.stages._lm.precision import resolve_precision
from kpod.stages.student._settings import Config

if TYPE_CHECKING:
    from kpod.runner.capability import Capability


class Seq2SeqLm(Stage[Config]):
    """An encoder-decoder trained on the questions that have a verified rationale."""

    uses = "student.seq2seq_lm"
    version = 1
    seeded = "recipe"
    libraries = ("torch", "transformers", "peft")
    model = Input(Model)
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    weights = Input(TokenWeights, optional=True)
    curriculum = Input(Curriculum, optional=True, agree=("epochs",))
    # Cuts nothing: its target tokens are what this student may spend (DESIGN 7, equal target tokens).
    budget = Input(Curriculum, optional=True, replaces=("epochs",))
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

    def inspect(
        self, ctx: Context[Config], *, limit: int, epoch: int
    ) -> Iterator[InspectedExample]:
        """The first sequences of an epoch (from 1), encoded as `run` encodes them."""
        from kpod.stages.student._distil import inspect_examples

        yield from inspect_examples(ctx, self, limit=limit, epoch=epoch)
