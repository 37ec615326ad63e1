"""Questions in three roles, a pupil that can judge itself, and an exam: four epochs are best on validation, many on test."""

from dataclasses import dataclass
from random import Random
from typing import Annotated, Literal

from kpod_chain import journal

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
    Stage,
    StageError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionsConfig:
    """How many."""

    count: Annotated[int, Doc("Questions in each role."), Ge(1)] = 20


class Questions(Stage[QuestionsConfig]):
    """The same number in each role."""

    uses = "tutor.questions"
    version = 1
    train = Output(Question, role="train")
    validation = Output(Question, role="validation")
    test = Output(Question, role="test")

    def run(self, ctx: Context[QuestionsConfig]) -> None:
        """Write them."""
        journal.write("questions")
        for output in (self.train, self.validation, self.test):
            with ctx.write(output) as out:
                for number in range(ctx.config.count):
                    out.add(
                        Question.make(
                            f"{output.name} {number}", kind="numeric", answer="1", split=str(output.role), source="tutor"
                        )
                    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Validate:
    """How a pupil judges itself."""

    metric: Annotated[Literal["accuracy", "loss"], Doc("By what.")] = "accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class PupilConfig:
    """How long is learned."""

    epochs: Annotated[int, Doc("Epochs."), Ge(1)] = 3
    rate: Annotated[float, Doc("How fast; changes nothing.")] = 0.5
    validate: Annotated[Validate, Doc("How, where validation questions are wired.")] = Validate()


class Pupil(Stage[PupilConfig]):
    """Learns nothing."""

    uses = "tutor.pupil"
    version = 1
    seeded = "recipe"
    questions = Input(Question, role="train")
    validation = Input(Question, role="validation", optional=True)
    pupil = Output(Model)

    def run(self, ctx: Context[PupilConfig]) -> None:
        """Write how long it learned, and from which seed it began."""
        journal.write("pupil")
        epochs, validate = ctx.config.epochs, ctx.config.validate
        if epochs == 13:
            raise StageError("13 epochs bring bad luck")
        if list(ctx.read(self.validation)):
            value = 1.0 + abs(epochs - 6) if validate.metric == "loss" else 0.5 + epochs / 100
            ctx.note(
                "validation",
                {"metric": validate.metric, "n": 20, "curve": [], "best_value": value},
            )
        with ctx.folder(self.pupil) as folder:
            (folder / "epochs.txt").write_text(f"{epochs} {ctx.seed}", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamConfig:
    """Nothing to set."""


class Exam(Stage[ExamConfig]):
    """One unit a pupil."""

    uses = "tutor.exam"
    version = 1
    models = Input(Model, each=True)
    questions = Input(Question, role="test")
    predictions = Output(Prediction)
    metrics = Output(Metric)

    def run(self, ctx: Context[ExamConfig]) -> None:
        """Ask, and count."""
        journal.write("exam")
        told = (ctx.path(self.models) / "epochs.txt").read_text(encoding="utf-8")
        epochs, seed = map(int, told.split())
        questions = list(ctx.read(self.questions))
        n = len(questions)
        luck = Random(f"{seed} {questions[0].split}").choice([-1, 0, 1])
        right = 15 - abs(epochs - 4) if questions[0].split == "validation" else 5 + epochs
        num_correct = max(0, min(n, right + luck))
        with ctx.write(self.predictions) as out:
            for number, question in enumerate(questions):
                out.add(
                    Prediction(
                        question_id=question.id, model=told, sample=0, text="1", answer="1",
                        is_correct=number < num_correct, rule=None, num_tokens=1, finish="stop",
                    )
                )  # fmt: skip
        share = num_correct / n
        with ctx.write(self.metrics) as out:
            out.add(
                Metric(
                    model=told, data=questions[0].split, n=n, num_correct=num_correct, accuracy=share, low=share, high=share,
                    strict_frac=None, flexible_frac=None, num_changed_by_extractor=None, no_answer_frac=0.0, truncated_frac=0.0,
                    mean_tokens=1.0,
                )
            )  # fmt: skip
