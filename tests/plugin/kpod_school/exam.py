"""An evaluation of pupils: who learned longer is right more often, and the seed decides on which questions."""

from dataclasses import dataclass
from random import Random
from typing import Annotated

from kpod_chain import journal

from kpod.runner import (
    Assignment,
    Context,
    Curriculum,
    Difficulty,
    Doc,
    Ge,
    Input,
    Metric,
    Model,
    Output,
    Prediction,
    Question,
    Rationale,
    Stage,
    StageError,
    TokenWeights,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExamConfig:
    """What is asked."""

    paper: Annotated[str, Doc("Name of the set of questions.")] = "first"
    num_questions: Annotated[int, Doc("How many."), Ge(1)] = 200


class Exam(Stage[ExamConfig]):
    """One unit a pupil."""

    uses = "school.exam"
    version = 1
    models = Input(Model, each=True)
    predictions = Output(Prediction)
    metrics = Output(Metric)

    def run(self, ctx: Context[ExamConfig]) -> None:
        """Ask, and count."""
        journal.write("exam")
        told = (ctx.path(self.models) / "epochs.txt").read_text(encoding="utf-8")
        epochs, seed = map(int, told.split())
        if epochs == 13:
            raise StageError("13 epochs bring bad luck")
        n = ctx.config.num_questions
        luck = [Random(f"{seed} {number}").random() for number in range(n)]
        verdicts = [each < 0.3 + 0.02 * epochs for each in luck]
        with ctx.write(self.predictions) as out:
            for number, is_correct in enumerate(verdicts):
                out.add(
                    Prediction(
                        question_id=f"{ctx.config.paper}{number}", model=told, sample=0, text="1", answer="1",
                        is_correct=is_correct, rule=None, num_tokens=1, finish="stop",
                    )
                )  # fmt: skip
        share = sum(verdicts) / n
        with ctx.write(self.metrics) as out:
            out.add(
                Metric(
                    model=told, data=ctx.config.paper, n=n, num_correct=sum(verdicts), accuracy=share, low=share,
                    high=share, strict_frac=None, flexible_frac=None, num_changed_by_extractor=None,
                    no_answer_frac=0.0, truncated_frac=0.0, mean_tokens=1.0,
                )
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LessonConfig:
    """Nothing to set."""


class Lesson(Stage[LessonConfig]):
    """Everything that a run can hold about a question."""

    uses = "school.lesson"
    version = 1
    questions = Input(Question, role="train")
    rationales = Output(Rationale)
    weights = Output(TokenWeights)
    difficulty = Output(Difficulty)
    clusters = Output(Assignment)
    curriculum = Output(Curriculum)

    def run(self, ctx: Context[LessonConfig]) -> None:
        """Write one row of each for every question."""
        journal.write("lesson")
        text = "Two and two. Makes\x1b four."
        with (
            ctx.write(self.rationales) as rationales,
            ctx.write(self.weights) as weights,
            ctx.write(self.difficulty) as difficulty,
            ctx.write(self.clusters) as clusters,
            ctx.write(self.curriculum) as curriculum,
        ):
            for number, question in enumerate(ctx.read(self.questions)):
                one = Rationale.make(
                    question.id, text, teacher="book", answer="4", verdict="correct"
                )
                rationales.add(one)
                weights.add(
                    TokenWeights(
                        rationale_id=one.id,
                        spans=((0, 3), (4, 7), (8, 12), (13, 19), (20, 25)),
                        weights=(0.9, 0.05, 0.8, 0.2, 1.0),
                    )
                )
                difficulty.add(
                    Difficulty(rationale_id=one.id, steps=((0, 13, 1.5), (13, 25, 0.25)))
                )
                clusters.add(Assignment(question_id=question.id, cluster=number % 2))
                curriculum.add(
                    Curriculum(rationale_id=one.id, num_steps=2, given=(1, 1, 0), cut=(13, 13, 0))
                )
