"""A plug-in for measurements: stand-ins for a student and for its evaluation, as long as real ones and made in no time."""

from dataclasses import dataclass
from random import Random
from typing import Annotated

from kpod.runner import (
    Context,
    Doc,
    Input,
    Metric,
    Model,
    Output,
    Prediction,
    Question,
    Rationale,
    Stage,
    TokenWeights,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PupilConfig:
    """How well it learned."""

    share: Annotated[float, Doc("Share of the test questions that it answers rightly.")] = 0.5


class Pupil(Stage[PupilConfig]):
    """A stand-in for a student: knows how often it is to be right."""

    uses = "bench.pupil"
    version = 1
    seeded = "recipe"
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    weights = Input(TokenWeights, optional=True)
    pupil = Output(Model)

    def run(self, ctx: Context[PupilConfig]) -> None:
        """Write that down."""
        with ctx.folder(self.pupil) as folder:
            told = f"{ctx.config.share} {ctx.seed}"
            (folder / "share.txt").write_text(told, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamConfig:
    """Nothing to set."""


class Exam(Stage[ExamConfig]):
    """A stand-in for an evaluation: worked steps, and an answer that is right as often as the pupil says."""

    uses = "bench.exam"
    version = 1
    models = Input(Model, each=True)
    questions = Input(Question, role="test")
    predictions = Output(Prediction)
    metrics = Output(Metric)

    def run(self, ctx: Context[ExamConfig]) -> None:
        """Say it, and count."""
        told = (ctx.path(self.models) / "share.txt").read_text(encoding="utf-8")
        share = float(told.split()[0])
        n = num_correct = 0
        with ctx.write(self.predictions) as out:
            for question in ctx.read(self.questions):
                is_correct = Random(f"{told} {question.id}").random() < share
                answer = question.answer if is_correct else "0"
                out.add(
                    Prediction(
                        question_id=question.id, model=told, sample=0, answer=answer, is_correct=is_correct, rule="phrase",
                        text=f"{question.solution} Therefore, the answer is {answer}.", num_tokens=40, finish="stop",
                    )
                )  # fmt: skip
                n, num_correct = n + 1, num_correct + is_correct
        accuracy = num_correct / n
        half = 1.96 * (accuracy * (1 - accuracy) / n) ** 0.5
        ctx.note("accuracy", {"accuracy": accuracy})
        with ctx.write(self.metrics) as out:
            out.add(
                Metric(
                    model=told, data=f"{n} questions", n=n, num_correct=num_correct, accuracy=accuracy, low=accuracy - half,
                    high=accuracy + half, strict_frac=None, flexible_frac=None, num_changed_by_extractor=None,
                    no_answer_frac=0.0, truncated_frac=0.0, mean_tokens=40.0,
                )
            )  # fmt: skip
