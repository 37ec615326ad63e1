"""What students of both families share: what they read, what they leave, and how `auto` settings are resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from kpod.stages._lm.precision import QUANTISED
from kpod.stages.student._settings import Config
from kpod.stages.student._wired import check_wired

if TYPE_CHECKING:
    from kpod.runner.capability import Capability


class Student(Stage[Config]):
    """A language model trained on the questions that have a verified rationale."""

    seeded = "recipe"
    parallel = True
    libraries = ("torch", "transformers", "peft")
    model = Input(Model)
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    weights = Input(TokenWeights, optional=True)
    curriculum = Input(Curriculum, optional=True, agree=("epochs",))
    # Cuts nothing: its target tokens are what this student may spend (DESIGN 7, equal target tokens).
    budget = Input(Curriculum, optional=True, replaces=("epochs",))
    validation = Input(Question, role="validation", optional=True)
    validation_rationales = Input(Rationale, optional=True)
    student = Output(Model)

    @classmethod
    def libraries_of(cls, config: Config) -> tuple[str, ...]:
        """Bitsandbytes too, where it holds weights or moments."""
        needs_bits = config.precision in QUANTISED or config.optimizer != "adamw"
        return (*cls.libraries, "bitsandbytes") if needs_bits else cls.libraries

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Every `auto`, by what the machine is fast at and how much fits into its memory."""
        from kpod.stages.student._auto import resolve

        return resolve(config, capability, models["model"])

    @classmethod
    def check_installed(cls, config: Config) -> None:
        """The trackers."""
        from kpod.stages.student._trackers import check_trackers

        check_trackers(config.trackers, needed_by=f"{cls.uses} trackers")

    @classmethod
    def check(cls, config: Config, wired: frozenset[str]) -> None:
        """Inputs that would be ignored, a length that nothing says or two things do, validation without questions."""
        check_wired(config, wired)

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
