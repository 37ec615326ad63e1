"""A training is killed at twenty points, and told to stop twice; continued, it gives the same student to the bit.

Seventeen kills are an exception that nothing in kpod catches, raised inside of the training; three are a real SIGKILL of
a process that runs `kpod run`. The training has dropout, a progressive curriculum and validation.
"""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from safetensors.torch import save

from kpod.runner import Curriculum, Question, Rationale
from kpod.runner.archive import Archive
from kpod.runner.cli import main
from kpod.stages.student._adapter import Lora
from kpod.stages.student._monitor import Monitor
from kpod.stages.student._settings import Config
from kpod.stages.student._step import Step
from kpod.stages.student._tally import Tally
from kpod.stages.student._validate import Validate
from kpod.stages.student.causal_lm import CausalLm
from tests.e2e import recipes
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

pytestmark = pytest.mark.slow

FIRST, SECOND = "Tom has 7 + 2 = 9 apples. ", "Tom has 9 - 1 = 8 apples."
CUTS = (0, len(FIRST), len(FIRST + SECOND))
GIVEN = (2, 1, 0, 0)

Metric = Literal["accuracy", "loss"]
When = Literal["before", "after", "half"]


class Killed(BaseException):
    """As a SIGKILL: nothing of kpod runs after it."""


class Point(NamedTuple):
    """Where to die: at the call of a function with this number, counted from 0.

    Args:
        function: "module:name".
        at: number of the call.
        when: before it, after it, or when half of its file is written.
        metric: how the student is judged. By its loss, it is better every time; by its answers, it never gets better.
        is_begun: whether something is left that the next attempt goes on from.
    """

    function: str
    at: int
    when: When = "before"
    metric: Metric = "loss"
    is_begun: bool = True


STUDENT = "kpod.stages.student"
POINTS = {
    "the model is loaded": Point(f"{STUDENT}._distil:build", 0, "after", is_begun=False),
    "between the first backward and its update": Point("torch.nn.utils:clip_grad_norm_", 0, is_begun=False),
    "between a later backward and its update": Point("torch.nn.utils:clip_grad_norm_", 7, "after"),
    "the weights are updated, and not counted": Point(f"{STUDENT}._step:Step", 4),
    "a step is counted, and not saved": Point(f"{STUDENT}._loop:_count", 5, "after"),
    "before a checkpoint": Point(f"{STUDENT}._checkpoints:save_state", 2),
    "after a checkpoint": Point(f"{STUDENT}._checkpoints:save_state", 9, "after"),
    "half of a checkpoint is written": Point("kpod.stages._lm.training_state:write_whole", 5, "half"),
    "half of the first checkpoint is written": Point("kpod.stages._lm.training_state:write_whole", 0, "half", is_begun=False),
    "a checkpoint is written, and not in its place": Point("pathlib:Path.replace", 6),
    "progress is told": Point("tests.stages.fakes:FakeContext.progress", 6),
    "the first texts are written, and not judged": Point(f"{STUDENT}._judge:generate_texts", 0, "after", "accuracy"),
    "half of the answers are judged": Point(f"{STUDENT}._judge:judged", 12, "after", "accuracy"),
    "the loss is known, and not kept": Point(f"{STUDENT}._judge:token_nll", 2, "after"),
    "half of the best student is written": Point(f"{STUDENT}._best:write_whole", 1, "half"),
    "the best student is written, and no checkpoint names it": Point(f"{STUDENT}._checkpoints:save_best", 2, "after"),
    "the second best is not yet removed": Point(f"{STUDENT}._checkpoints:drop_others", 3),
    "before the best student is taken back": Point(f"{STUDENT}._checkpoints:load_best", 0, "before", "accuracy"),
    "half of the student's files are there": Point(f"{STUDENT}._distil:write_adapter", 0, "after", "accuracy"),
}  # fmt: skip


def die_at(patch: pytest.MonkeyPatch, point: Point) -> None:
    """Have the process die there."""
    module, _, path = point.function.partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    original: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1 << 30))

    def deadly(*arguments: Any, **settings: Any) -> Any:
        if next(calls) != point.at:
            return original(*arguments, **settings)
        if point.when == "half":
            file, tensors = arguments
            data = save(tensors, metadata=settings.get("metadata"))
            file.with_name(file.name + ".new").write_bytes(data[: len(data) // 2])
        if point.when == "after":
            original(*arguments, **settings)
        raise Killed

    patch.setattr(owner, name, deadly)


def rows(first: int, last: int) -> tuple[tuple[Question, ...], tuple[Rationale, ...]]:
    questions = tuple(
        Question.make(
            f"Tom has {n} apples. How many?", kind="numeric", answer="8", split="train", source="test"
        )
        for n in range(first, last)
    )  # fmt: skip
    return questions, tuple(
        Rationale.make(one.id, FIRST + SECOND, teacher="reference") for one in questions
    )


def context(metric: Metric, root: Path) -> FakeContext[Config]:
    """Four epochs of three steps, each with a checkpoint; two steps given, then one, then none."""
    questions, rationales = rows(0, 20)
    validation, worked = rows(20, 28)
    inputs: dict[str, Any] = {
        "questions": questions, "rationales": rationales, "validation": validation,
        "curriculum": [
            Curriculum(rationale_id=row.id, num_steps=2, given=GIVEN, cut=tuple(CUTS[n] for n in GIVEN))
            for row in rationales
        ],
    }  # fmt: skip
    if metric == "loss":
        inputs["validation_rationales"] = worked
    length = {"max_new_tokens": 16} if metric == "accuracy" else {}
    config = Config(
        epochs=4, batch_size=8, learning_rate=5e-3, precision="fp32", micro_batch_tokens=4096,
        lora=Lora(rank=4, dropout=0.2), checkpoint_every_s=0.0,
        validate=Validate(metric=metric, **length),
    )  # fmt: skip
    return FakeContext(
        config=config, inputs=inputs, models={"model": tiny_model()}, seed=3, root=root
    )


def files_of(ctx: FakeContext[Config]) -> dict[str, bytes]:
    """What a run to the end writes."""
    CausalLm().run(ctx)
    return {path.name: path.read_bytes() for path in ctx.folders["student"].iterdir()}


@cache
def undisturbed(metric: Metric, root: Path) -> tuple[dict[str, bytes], Any]:
    """The student that nobody killed, and how it was judged."""
    ctx = context(metric, root / metric)
    return files_of(ctx), ctx.notes["validation"]


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_a_training_killed_inside_goes_on_to_the_same_student(
    point: Point,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    expected, judged = undisturbed(point.metric, tmp_path_factory.getbasetemp() / "undisturbed")
    assert judged["best_epoch"] == (4 if point.metric == "loss" else 1)

    with pytest.MonkeyPatch.context() as patch:
        die_at(patch, point)
        with pytest.raises(Killed):
            CausalLm().run(context(point.metric, tmp_path))
    again = context(point.metric, tmp_path)

    assert files_of(again) == expected
    assert again.notes["validation"] == judged
    assert "checkpoint_refused" not in again.notes
    made = [facts for *_, facts in again.steps if "loss" in facts]
    assert (len(made) < 12) == point.is_begun


RECIPE = """
kpod: 1
name: killed
seed: 0
stages:
  questions:
    uses: data.word_problems
    with: {num_train: 64, num_validation: 8, num_test: 8, forms: [one_step], seed: 3}
  base: {uses: model.pretrained, with: {package: kpod.stages.model, file: quickstart_base}}
  rationales: {uses: teacher.reference}
  student:
    uses: student.causal_lm
    in: {model: base, validation: questions.validation}
    with:
      epochs: 40
      batch_size: 16
      precision: fp32
      lora: {rank: 4, dropout: 0.1}
      checkpoint_every_s: 0
      validate: {every_epochs: 10, max_new_tokens: 24}
placement: {default: {threads: 1}}
"""


def student_of(archive: Archive) -> dict[str, bytes]:
    folder = archive.folder / "stages" / "student" / "student"
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def forked(path: Path, runs: Path, sent: signal.Signals, *, at: int) -> int:
    """`kpod run` in a process that has torch loaded already, sent a signal after so many steps; its exit code."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.alarm(200)
            _signal_at(sent, at)
            code = main(["run", str(path), "--runs", str(runs), "--offline"])
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _signal_at(sent: signal.Signals, at: int) -> None:
    """Have this process, which ends with it, send itself a signal after so many steps."""

    def after(self: Monitor, done: Step, tally: Tally) -> dict[str, float]:
        if tally.step == at:
            os.kill(os.getpid(), sent)
        return {}

    Monitor.after = after  # type: ignore[method-assign]


def started(path: Path, runs: Path, sent: signal.Signals, *, at: int) -> int:
    """`kpod run` in a process of its own, sent a signal once it has told of so many steps; its exit code."""
    words = [*recipes.command(runs)[:4], str(path), "--runs", str(runs), "--json"]
    process = recipes.start(words, path.parent)
    recipes.wait_for(process, "student", steps=at)
    process.send_signal(sent)
    process.communicate(timeout=120)
    return process.returncode


def test_a_process_that_is_killed_and_told_to_stop_goes_on_to_the_same_student(
    tmp_path: Path,
) -> None:
    path, runs = tmp_path / "killed.yaml", tmp_path / "runs"
    path.write_text(RECIPE, encoding="utf-8")
    expected = student_of(recipes.run(path, tmp_path / "undisturbed"))

    told = [
        forked(path, runs, signal.SIGKILL, at=20),
        forked(path, runs, signal.SIGUSR1, at=31),
        forked(path, runs, signal.SIGKILL, at=40),
        started(path, runs, signal.SIGTERM, at=60),
        forked(path, runs, signal.SIGKILL, at=150),
    ]
    archive = recipes.run(path, runs)

    assert told == [-signal.SIGKILL, 5, -signal.SIGKILL, 5, -signal.SIGKILL]
    assert student_of(archive) == expected
    notes = archive.units["student"].manifest.notes
    assert notes["steps"] == 160
    assert "checkpoint_refused" not in notes
    assert recipes.executed(archive) == ["student"]
