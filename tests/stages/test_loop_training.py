"""The loop: loss and gradient equal plain cross-entropy, however a step is split; a stopped training loses nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kpod.runner import Interrupted, StageError
from kpod.stages._lm.encoding import Example
from kpod.stages._lm.loading import load_causal_lm
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Batch, pad
from kpod.stages.student import _loss
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._loop import train
from kpod.stages.student._loss import backward, take_apart
from kpod.stages.student._schedule import Schedule
from kpod.stages.student._training import Training
from kpod.stages.student._validate import Validate
from kpod.stages.student._watch import Sums, Tell, Watch
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files
from tests.stages.tiny_training import EXAMPLES, fresh, training, weights

CPU = torch.device("cpu")


def batch_of(examples: list[Example]) -> Batch:
    return pad([one.passage(1) for one in examples], device=CPU)


def gradient(groups: list[list[int]], *, denominator: float) -> tuple[float, torch.Tensor]:
    student = fresh()
    loss = sum(
        float(backward(student, batch_of([EXAMPLES[i] for i in group]), denominator=denominator))
        for group in groups
    )
    return loss, torch.cat([value.grad.flatten() for value in student.model.parameters()])


def plain_loss(model: Any, batch: list[Example]) -> torch.Tensor:
    """Mean cross-entropy over all targets, each sequence alone, logits of every position."""
    nats = torch.zeros(())
    for one in batch:
        ids = torch.tensor([[*one.prompt_ids, *one.completion.ids]])
        logits = model(input_ids=ids).logits[0, len(one.prompt_ids) - 1 : -1]
        nats = nats + torch.nn.functional.cross_entropy(
            logits, torch.tensor(one.completion.ids), reduction="sum"
        )
    return nats / sum(one.num_targets(1) for one in batch)


@pytest.mark.parametrize(
    "groups", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0], [1], [2], [3]], [[3, 0, 1], [2]]]
)
def test_loss_and_gradient_of_a_step_equal_plain_cross_entropy_however_it_is_split(
    groups: list[list[int]],
) -> None:
    batch = EXAMPLES[:4]
    model: Any = load_causal_lm(tiny_files(), precision="fp32", device="cpu")
    expected = plain_loss(model, batch)
    expected.backward()
    expected_gradient = torch.cat([value.grad.flatten() for value in model.parameters()])

    loss, actual = gradient(groups, denominator=sum(one.num_targets(1) for one in batch))

    assert loss == pytest.approx(float(expected.detach()), abs=1e-5)
    torch.testing.assert_close(actual, expected_gradient, rtol=1e-4, atol=1e-5)


def test_logits_in_pieces_give_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    whole_loss, whole = gradient([[0, 1, 2, 3]], denominator=30)
    monkeypatch.setattr(_loss, "_MAX_LOGITS", 158 * 7)

    pieces_loss, pieces = gradient([[0, 1, 2, 3]], denominator=30)

    assert pieces_loss == pytest.approx(whole_loss, abs=1e-5)
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-5)


def test_a_token_of_weight_nothing_adds_nothing() -> None:
    batch = batch_of(EXAMPLES[:2])
    student = fresh()

    loss = backward(student, batch._replace(weights=batch.weights * 0), denominator=10)

    assert float(loss) == 0.0
    assert all(value.grad.abs().max() == 0 for value in student.model.parameters())


def test_the_loss_curve_equals_plain_training_with_adamw(tmp_path: Path) -> None:
    settings = training()
    model: Any = load_causal_lm(tiny_files(), precision="fp32", device="cpu")
    model.train()
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [value for value in model.parameters() if value.dim() > 1],
                "weight_decay": 0.01,
            },
            {
                "params": [value for value in model.parameters() if value.dim() < 2],
                "weight_decay": 0.0,
            },
        ],
        fused=False,
    )
    expected = []
    for step in range(settings.plan.num_steps):
        loss = plain_loss(model, [EXAMPLES[index] for index in settings.plan.indices(step)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = settings.schedule.learning_rate(step)
        optimizer.step()
        optimizer.zero_grad()
        expected.append(float(loss.detach()))

    ctx = FakeContext(config=None, root=tmp_path)
    train(ctx, fresh(), EXAMPLES, settings)

    assert [facts["loss"] for _, _, _, facts in ctx.steps] == pytest.approx(expected, abs=1e-5)


def test_a_small_model_learns_eight_sequences_by_heart(tmp_path: Path) -> None:
    plan = StepPlan(num_examples=8, batch_size=8, num_steps=70, seed=0)
    settings = Training(
        plan=plan,
        schedule=Schedule(name="constant", peak=2e-2, warmup_frac=0.0, num_steps=70),
        normalise="targets", weight_decay=0.0, grad_clip=1.0, micro_batch_tokens=4096, checkpoint_every_s=1e9,
    )  # fmt: skip

    tally = train(FakeContext(config=None, root=tmp_path), fresh(), EXAMPLES[:8], settings)

    assert tally.losses[0] > 4
    assert tally.losses[-1] < 0.1


@pytest.mark.parametrize("dropout", [None, 0.3])
def test_an_interrupted_training_goes_on_to_the_same_bits(
    dropout: float | None, tmp_path: Path
) -> None:
    undisturbed = fresh(dropout=dropout)
    whole = train(FakeContext(config=None, root=tmp_path / "a"), undisturbed, EXAMPLES, training())

    stopped = FakeContext(config=None, root=tmp_path / "b", stop_at=5)
    with pytest.raises(Interrupted, match="interrupted"):
        train(stopped, fresh(dropout=dropout), EXAMPLES, training())
    torch.rand(3)  # what others draw meanwhile must not matter
    resumed = fresh(dropout=dropout)
    ctx = FakeContext(config=None, root=tmp_path / "b")
    tally = train(ctx, resumed, EXAMPLES, training())

    assert len(ctx.steps) == 4
    assert tally.losses == whole.losses
    assert tally.processed_tokens == whole.processed_tokens
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(resumed)[name]), name


class Killed(BaseException):
    """As a SIGKILL: nothing of the loop runs after it."""


class KilledContext(FakeContext[None]):
    """Dies in the progress call of a step."""

    def progress(self, done: float, total: float, *, unit: str = "", **facts: float) -> None:
        super().progress(done, total, unit=unit, **facts)
        if done == 6:
            raise Killed


def ticking(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much at every look."""
    state = {"now": 0.0}

    def look() -> float:
        state["now"] += seconds
        return state["now"]

    return look


def test_a_killed_training_goes_on_from_its_last_checkpoint_to_the_same_bits(
    tmp_path: Path,
) -> None:
    undisturbed = fresh(dropout=0.2)
    train(FakeContext(config=None, root=tmp_path / "a"), undisturbed, EXAMPLES, training())

    with pytest.raises(Killed):
        train(
            KilledContext(config=None, root=tmp_path / "b"), fresh(dropout=0.2), EXAMPLES,
            training(every_s=4), clock=ticking(1),
        )  # fmt: skip
    resumed = fresh(dropout=0.2)
    ctx = FakeContext(config=None, root=tmp_path / "b")
    train(ctx, resumed, EXAMPLES, training())

    assert ctx.steps[0][0] == 5, "the checkpoint was written after step 4"
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(resumed)[name]), name


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _no_tensors_at_all(path: Path) -> None:
    path.write_text("a checkpoint, says its author", encoding="utf-8")


def _rewrite(path: Path, *, old: str, new: str, **more: int) -> None:
    """The same file, with other names of its tensors, and with more facts."""
    with safe_open(path, framework="pt") as file:
        tensors = {name.replace(old, new): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata()
    facts = json.loads(header["facts"]) | more
    save_file(tensors, path, metadata={**header, "facts": json.dumps(facts)})


def _of_another_training(path: Path) -> None:
    _rewrite(path, old="q_proj", new="query")


def _of_another_version(path: Path) -> None:
    _rewrite(path, old="", new="", phase_of_the_moon=3)


def _without_the_best(path: Path) -> None:
    _cut(path.with_name("best-3.safetensors"))


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (_cut, "training.safetensors is cut short or no checkpoint (SafetensorError: "),
        (_empty, "training.safetensors is cut short or no checkpoint ("),
        (_no_tensors_at_all, "training.safetensors is cut short or no checkpoint ("),
        (_of_another_training, "training.safetensors holds the weights of another training"),
        (_of_another_version, "the checkpoint was written by another version of kpod (Tally."),
        (_without_the_best, "the weights of the best student, after step 3, are gone or cut short"),
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_told_of_and_training_starts_anew(
    damage: Callable[[Path], None], why: str, tmp_path: Path
) -> None:
    watch = Watch(settings=Validate(metric="loss"), judge=Aging(), num=1)
    undisturbed = fresh(dropout=0.2)
    ctx = FakeContext(config=None, root=tmp_path / "a")
    train(ctx, undisturbed, EXAMPLES, training(), watch=watch)
    watch = replace(watch, judge=Aging())
    stopped = FakeContext(config=None, root=tmp_path / "b", stop_at=5)
    with pytest.raises(Interrupted, match="interrupted"):
        train(stopped, fresh(dropout=0.2), EXAMPLES, training(), watch=watch)
    damage(stopped.checkpoint / "training.safetensors")

    watch = replace(watch, judge=Aging())
    again = fresh(dropout=0.2)
    ctx = FakeContext(config=None, root=tmp_path / "b")
    tally = train(ctx, again, EXAMPLES, training(), watch=watch)

    assert tally.refused.startswith(why)
    assert [done for done, *_ in ctx.steps] == list(range(1, 10))
    assert tally.kept_step == 3
    for name, value in weights(undisturbed).items():
        assert torch.equal(value, weights(again)[name]), name


class Aging:
    """Judges every student as worse than the one before."""

    def __init__(self) -> None:
        self.num_asked = 0

    def __call__(self, student: Parts, tell: Tell) -> Sums:
        self.num_asked += 1
        return Sums(self.num_asked, 1)


def test_how_often_checkpoints_are_written_changes_nothing(tmp_path: Path) -> None:
    always, never = fresh(dropout=0.2), fresh(dropout=0.2)

    train(FakeContext(config=None, root=tmp_path / "a"), always, EXAMPLES, training(every_s=0))
    train(FakeContext(config=None, root=tmp_path / "b"), never, EXAMPLES, training())

    for name, value in weights(always).items():
        assert torch.equal(value, weights(never)[name]), name


def test_the_global_random_numbers_are_left_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(4)
    torch.manual_seed(11)

    train(FakeContext(config=None, root=tmp_path), fresh(dropout=0.5), EXAMPLES, training(steps=2))

    assert torch.equal(torch.rand(4), expected)


def test_a_loss_that_is_not_finite_stops_training_and_names_the_examples(tmp_path: Path) -> None:
    student = fresh()
    with torch.no_grad():
        student.output_layer.weight[0, 0] = torch.nan
    settings = training()

    ctx = FakeContext(config=None, root=tmp_path)

    with pytest.raises(StageError) as raised:
        train(ctx, student, EXAMPLES, settings)

    message = str(raised.value)
    saved = ctx.checkpoint / "not_finite.json"
    assert message.endswith(f"all ids of the step: {saved}")
    assert json.loads(saved.read_text()) == [
        f"example-{index}" for index in settings.plan.indices(0)
    ]
    assert message.startswith(
        "step 1 of 9 (epoch 1): loss nan, gradient norm nan; both must be finite"
    )
    for index in settings.plan.indices(0):
        assert f"example-{index}" in message


def test_bf16_follows_fp32_to_its_own_accuracy(tmp_path: Path) -> None:
    curves = []
    for precision in ("fp32", "bf16"):
        ctx = FakeContext(config=None, root=tmp_path / precision)
        train(ctx, fresh(precision=precision), EXAMPLES, training())
        curves.append([facts["loss"] for _, _, _, facts in ctx.steps])

    assert curves[1] == pytest.approx(curves[0], rel=0.05)  # bf16 keeps 8 bits: 0.4 % a number
    assert curves[1] != curves[0]


def test_an_architecture_that_changes_its_logits_after_the_head_is_refused() -> None:
    model: Any = load_causal_lm(tiny_files(), precision="fp32", device="cpu")

    class Capped(type(model)):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            output = super().forward(*args, **kwargs)
            output.logits = torch.tanh(output.logits)
            return output

    model.__class__ = Capped
    with pytest.raises(StageError, match="Capped changes its logits after the output layer"):
        take_apart(model, precision="fp32", probe_ids=(1, 2, 3))
