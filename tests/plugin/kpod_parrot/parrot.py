"""A parrot: whatever a data set holds, it says, notes and answers, so that all of it reaches every page and every line."""

from dataclasses import dataclass
from typing import Annotated

from kpod.runner import (
    Context,
    Curriculum,
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
class ParrotConfig:
    """What it is called."""

    name: Annotated[str, Doc("Its name.")] = "polly"


class Parrot(Stage[ParrotConfig]):
    """Learns by heart what it is given, and notes it under its own words."""

    uses = "student.parrot"
    version = 1
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    weights = Input(TokenWeights, optional=True)
    curriculum = Input(Curriculum, optional=True)
    student = Output(Model)

    def run(self, ctx: Context[ParrotConfig]) -> None:
        """Write the name and the texts."""
        texts = [rationale.text for rationale in ctx.read(self.rationales)]
        for text in texts:
            ctx.note(text[:200], {text[:200]: [text[:200], None, True, 0.5]})
        ctx.note("summary", f"{ctx.config.name} learned {texts[0][:200]}")
        ctx.note("losses", [2.0, 1.0])
        with ctx.folder(self.student) as folder:
            told = "\n".join([str(len(ctx.config.name)), *texts])
            (folder / "texts.txt").write_text(told, encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkConfig:
    """Nothing to set."""


class Talk(Stage[TalkConfig]):
    """Says each question again; every third answer is right, and which of them, the length of its name decides."""

    uses = "evaluate.parrot"
    version = 1
    models = Input(Model, each=True)
    questions = Input(Question, role="test")
    predictions = Output(Prediction)
    metrics = Output(Metric)

    def run(self, ctx: Context[TalkConfig]) -> None:
        """Ask, and count."""
        told = (ctx.path(self.models) / "texts.txt").read_text(encoding="utf-8")
        luck, model = int(told.partition("\n")[0]), ctx.digest(self.models)
        questions = list(ctx.read(self.questions))
        right = [(number + luck) % 3 == 0 for number in range(len(questions))]
        with ctx.write(self.predictions) as out:
            for question, is_correct in zip(questions, right, strict=True):
                out.add(
                    Prediction(
                        question_id=question.id, model=model, sample=0, text=f"{luck} times: {question.text}",
                        answer=question.answer if is_correct else question.text, is_correct=is_correct, rule="phrase",
                        num_tokens=9, finish="stop",
                    )
                )  # fmt: skip
        share = sum(right) / len(right)
        ctx.note("summary", questions[0].text[:200])
        with ctx.write(self.metrics) as out:
            out.add(
                Metric(
                    model=model, data=ctx.digest(self.questions), n=len(right), num_correct=sum(right), accuracy=share,
                    low=share, high=share, strict_frac=None, flexible_frac=None, num_changed_by_extractor=None,
                    no_answer_frac=0.0, truncated_frac=0.0, mean_tokens=9.0,
                )
            )  # fmt: skip
