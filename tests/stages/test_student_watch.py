"""Validation while a student trains: nothing of the training changes, the best student is kept, patience ends it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, Question, Rationale, SettingError, StageError
from kpod.stages._lm.artifact import read_spec
from kpod.stages._lm.parts import Parts
from kpod.stages.evaluate.accuracy import Accuracy
from kpod.stages.evaluate.accuracy import Config as AccuracyConfig
from kpod.stages.student._adapter import Lora
from kpod.stages.student._loop import train
from kpod.stages.student._settings import Config
from kpod.stages.student._student import Student
from kpod.stages.student._tally import Judgement, Tally
from kpod.stages.student._team import Alone
from kpod.stages.student._validate import Validate
from kpod.stages.student._watch import Sums, Tell, Watch
from kpod.stages.student.causal_lm import CausalLm
from kpod.stages.student.seq2seq_lm import Seq2SeqLm
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model
from tests.stages.tiny_training import EXAMPLES, fresh, training, weights

FAST = Config(
    epochs=4, batch_size=8, learning_rate=5e-3, precision="fp32", micro_batch_tokens=4096,
    validate=Validate(max_new_tokens=32),
)  # fmt: skip
LOSS = replace(FAST, validate=Validate(metric="loss"))
OVERSHOOTING = replace(LOSS, method="full", schedule="constant", warmup_frac=0.0, learning_rate=0.1)


@cache
def rows(first: int, last: int) -> tuple[tuple[Question, ...], tuple[Rationale, ...]]:
    questions = tuple(
        Question.make(
            f"Tom has {number} apples. Tom buys {number + 3} more. How many apples does Tom have now?",
            kind="numeric", answer=str(2 * number + 3), split="train", source="test",
        )
        for number in range(first, last)
    )  # fmt: skip
    rationales = tuple(
        Rationale.make(
            question.id,
            f"Tom has {n} + {n + 3} = {2 * n + 3} apples.",
            teacher="reference",
            answer=question.answer,
        )
        for n, question in enumerate(questions, start=first)
    )
    return questions, rationales


def context(config: Config = FAST, *, model: Any = "qwen3", **changes: Any) -> FakeContext[Config]:
    """Twenty questions to learn, and eight others to be judged by, as the metric wants them."""
    questions, rationales = rows(0, 20)
    validation, worked = rows(20, 28)
    inputs: dict[str, Any] = {"questions": questions, "rationales": rationales}
    inputs["validation"] = validation
    if config.validate.metric == "loss":
        inputs["validation_rationales"] = worked
    inputs |= changes.pop("inputs", {})
    inputs = {name: given for name, given in inputs.items() if given is not None}
    return FakeContext(
        config=config, inputs=inputs, models={"model": tiny_model(model)}, seed=3, **changes
    )


def ran(ctx: FakeContext[Config], stage: type[Student] = CausalLm) -> dict[str, bytes]:
    """The files of the student, without model.json, which counts steps."""
    stage().run(ctx)
    return {
        path.name: path.read_bytes()
        for path in sorted(ctx.folders["student"].iterdir())
        if path.name != "model.json"
    }


def losses(ctx: FakeContext[Any]) -> list[float]:
    """Of the steps that were made; a judgement that takes long tells of itself between them."""
    return [facts["loss"] for _, _, _, facts in ctx.steps if "loss" in facts]


@pytest.mark.parametrize("config", [FAST, LOSS])
@pytest.mark.parametrize("stage", [CausalLm, Seq2SeqLm])
def test_judging_changes_nothing_of_the_training(config: Config, stage: type[Student]) -> None:
    model = "qwen3" if stage is CausalLm else "t5"
    config = replace(config, lora=Lora(rank=4, dropout=0.3))
    watched = context(config, model=model)
    alone = context(
        replace(config, validate=Validate()), model=model,
        inputs={"validation": None, "validation_rationales": None},
    )  # fmt: skip

    ran(watched, stage)
    ran(alone, stage)

    assert len(losses(alone)) == 12
    assert losses(watched) == losses(alone)
    assert [one["epoch"] for one in watched.notes["validation"]["curve"]] == [1, 2, 3, 4]
    assert "validation" not in alone.notes
    assert watched.records.count() == 0


def test_the_student_of_the_best_epoch_is_what_is_written() -> None:
    config = replace(OVERSHOOTING, epochs=8)
    ctx = context(config)
    written = ran(ctx)

    told = ctx.notes["validation"]
    curve = [one["value"] for one in told["curve"]]
    best = curve.index(min(curve)) + 1
    assert best < 8, "this training overshoots, so that the best is not the last"
    assert (told["best_epoch"], told["best_step"], told["best_value"]) == (best, best * 3, min(curve))  # fmt: skip
    assert not told["has_stopped_early"]
    assert f"best after epoch {best} of 8 (validation loss {min(curve):.3f}, " in ctx.notes["summary"]  # fmt: skip
    assert (read_spec(ctx.folders["student"]).trained_by or {})["steps"] == best * 3

    shorter = replace(config, epochs=best, validate=Validate())
    assert written == ran(
        context(shorter, inputs={"validation": None, "validation_rationales": None})
    )


def test_patience_ends_the_training_and_the_summary_says_so(tmp_path: Path) -> None:
    patient = replace(LOSS.validate, patience=1)
    config = replace(OVERSHOOTING, epochs=30, validate=patient)
    ctx = context(config, root=tmp_path)
    written = ran(ctx)

    told = ctx.notes["validation"]
    last = told["best_epoch"] + 1
    assert last < 30
    assert told["has_stopped_early"]
    assert ctx.notes["steps"] == len(losses(ctx)) == 3 * last
    assert ctx.notes["summary"].endswith(f"; stopped after epoch {last}")

    again = context(config, root=tmp_path)
    assert ran(again) == written
    assert losses(again) == [], "what is over is not gone on with"


def test_a_judgement_is_what_evaluation_says_of_the_same_student() -> None:
    questions, _ = rows(0, 20)
    config = replace(FAST, method="full", epochs=30, validate=Validate(every_epochs=30))
    ctx = context(replace(config, learning_rate=1e-2), inputs={"validation": questions[:12]})
    ran(ctx)
    asked: FakeContext[AccuracyConfig] = FakeContext(
        config=AccuracyConfig(precision="fp32", max_new_tokens=256),
        inputs={"questions": questions[:12]},
        models={"models": ctx.folders["student"]},
    )
    Accuracy().run(asked)

    (judged,) = ctx.notes["validation"]["curve"]
    assert judged["value"] == asked.notes["accuracy"]["accuracy"]
    assert judged["value"] > 0.3, "it knows some of them by heart"
    assert "(accuracy " in ctx.notes["summary"]
    assert ctx.notes["summary"].endswith("], n = 12)")


class Scripted:
    """Judges by a list of values, and remembers the weights that it saw."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)
        self.seen: list[dict[str, torch.Tensor]] = []
        self.dies_at = -1

    def __call__(self, student: Parts, tell: Tell) -> Sums:
        assert not student.model.training
        if len(self.seen) == self.dies_at:
            raise Interrupted("interrupted by the test")
        tell(1)
        self.seen.append(weights(student))
        return Sums(self.values[len(self.seen) - 1] * 10, 10)


def scripted(tmp_path: Path, *values: float, **settings: Any) -> tuple[Tally, Parts, Scripted]:
    judge, student = Scripted(*values), fresh(dropout=0.1)
    watch = Watch(settings=Validate(**settings), judge=judge, num=10)
    ctx: FakeContext[None] = FakeContext(config=None, root=tmp_path)
    return train(ctx, student, EXAMPLES, training(), watch=watch), student, judge


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [("accuracy", (0.2, 0.5, 0.5), 1), ("loss", (0.2, 0.5, 0.1), 2), ("loss", (0.3, 0.3, 0.3), 0)],
)
def test_the_first_of_the_best_is_kept(
    tmp_path: Path, metric: Any, values: tuple[float, ...], best: int
) -> None:
    tally, student, judge = scripted(tmp_path, *values, metric=metric)

    assert [one.value for one in tally.judgements] == pytest.approx(values)
    assert tally.kept_step == 3 * best + 3
    for name, value in weights(student).items():
        assert torch.equal(value, judge.seen[best][name]), name
    assert [path.name for path in tmp_path.glob("checkpoint/best-*")] == [
        f"best-{3 * best + 3}.safetensors"
    ]


def test_a_student_is_judged_every_so_many_epochs_and_at_the_end(tmp_path: Path) -> None:
    tally, _, _ = scripted(tmp_path, 0.1, 0.2, every_epochs=2)

    assert [(one.epoch, one.step) for one in tally.judgements] == [(2, 6), (3, 9)]


def test_patience_counts_judgements_that_are_no_better(tmp_path: Path) -> None:
    tally, _, _ = scripted(tmp_path, 0.5, 0.5, 0.9, patience=1)

    assert (tally.step, tally.kept_step) == (6, 3)


def test_an_interruption_while_judging_resumes_with_the_judgement(tmp_path: Path) -> None:
    expected, whole, _ = scripted(tmp_path / "a", 0.1, 0.3, 0.2)

    judge, resumed = Scripted(0.1), fresh(dropout=0.1)
    judge.dies_at = 1
    watch = Watch(settings=Validate(), judge=judge, num=10)
    ctx: FakeContext[None] = FakeContext(config=None, root=tmp_path / "b")
    with pytest.raises(Interrupted, match="interrupted by the test"):
        train(ctx, fresh(dropout=0.1), EXAMPLES, training(), watch=watch)
    watch = replace(watch, judge=Scripted(0.3, 0.2))
    ctx = FakeContext(config=None, root=tmp_path / "b")
    tally = train(ctx, resumed, EXAMPLES, training(), watch=watch)

    assert len(losses(ctx)) == 3
    assert tally.judgements == expected.judgements
    assert (tally.kept_step, tally.losses) == (6, expected.losses)
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_a_loss_that_is_not_finite_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="after epoch 1, the validation loss is nan; it must be"):
        scripted(tmp_path, float("nan"), metric="loss")


class Third(Alone):
    """One of three processes, and not the first: the first one's judgement is 0.7."""

    size = 3
    is_first = False

    def sum_numbers(self, *values: float) -> tuple[float, ...]:
        return tuple(mine + others for mine, others in zip(values, (7, 10), strict=True))


def test_other_processes_take_the_judgement_of_the_first(tmp_path: Path) -> None:
    judge = Scripted()
    watch = Watch(settings=Validate(), judge=judge, num=10)
    tally = Tally(step=3)
    ctx: FakeContext[None] = FakeContext(config=None, root=tmp_path)
    watch.observe(ctx, fresh(), tally, plan=training().plan, team=Third())

    assert tally.judgements == [Judgement(epoch=1, step=3, value=0.7)]
    assert judge.seen == []


@pytest.mark.parametrize(
    ("config", "inputs", "message"),
    [
        (LOSS, {"validation": None, "validation_rationales": None}, "no validation questions are wired"),
        (FAST, {"validation": None}, "no validation questions are wired"),
        (replace(FAST, validate=Validate()), {"validation": None, "validation_rationales": rows(20, 28)[1]}, "no validation questions"),
        (LOSS, {"validation_rationales": None}, "validate.metric is loss, but validation_rationales is not wired"),
        (FAST, {"validation_rationales": rows(20, 28)[1]}, "metric is accuracy, which does not read it"),
        (FAST, {"validation": ()}, "there are no questions to evaluate on"),
        (LOSS, {"validation": rows(20, 21)[0]}, "validation_rationales: 7 of 8 rationales belong to no question"),
        (FAST, {"validation": tuple(replace(one, answer=None) for one in rows(20, 28)[0])}, "none of the 8 validation questions has a gold answer"),
    ],
)  # fmt: skip
def test_what_would_be_ignored_or_cannot_be_judged_is_refused_before_training(
    config: Config, inputs: dict[str, Any], message: str
) -> None:
    ctx = context(config, inputs=inputs)
    with pytest.raises(StageError, match=message):
        CausalLm().run(ctx)

    assert ctx.steps == []


def test_a_length_of_texts_that_nobody_writes_is_refused() -> None:
    with pytest.raises(SettingError, match="max_new_tokens: the metric loss writes no texts"):
        Validate(metric="loss", max_new_tokens=8)
