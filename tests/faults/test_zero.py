"""A training that DeepSpeed spreads over processes (ZeRO, on CPUs over gloo): the same losses, the same files, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kpod.runner import Interrupted, StageError
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.processes import ranks
from kpod.stages.student import _loss
from kpod.stages.student._loop import train
from kpod.stages.student._processes import ZeroTeam, team_of
from kpod.stages.student._tally import Tally
from kpod.stages.student._training import Training
from kpod.stages.student._validate import Validate
from kpod.stages.student._watch import Sums, Tell, Watch
from tests.ranks import together
from tests.stages.fakes import FakeContext, FakePlacement
from tests.stages.tiny_models import Tiny
from tests.stages.tiny_training import EXAMPLES, training, whole

needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None,
    reason="deepspeed is not installed: pip install 'kpod[deepspeed]'",
)
PROBE = (1, 2, 3)
Trained = tuple[list[float], list[float], dict[str, torch.Tensor]]


def told(stage: int) -> dict[str, str]:
    """What accelerate's launcher sets."""
    return {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": str(stage)}


def trained(
    root: Path, *, method: str, stage: int = 0, tokens: int = 40, architecture: Tiny = "qwen3", stop_at: int | None = None,
    spoil: Callable[[Parts], None] | None = None, watch: Watch | None = None, environment: dict[str, str] | None = None,
) -> Trained:  # fmt: skip
    """Loss and gradient norm of every step that was told and, where this process has them whole, the weights at the end."""
    if ranks() is not None:
        os.environ |= environment or told(stage)
    ctx = FakeContext(config=None, root=root, stop_at=stop_at)
    team = team_of(FakePlacement(device="cpu"))
    assert isinstance(team, ZeroTeam) == (ranks() is not None)
    student = whole(method, architecture)
    if spoil is not None:
        spoil(student)
    losses: list[float] = []
    norms: list[float] = []

    class Told:
        def after(self, done: Any, _tally: Tally) -> dict[str, float]:
            losses.append(done.loss)
            norms.append(done.grad_norm)
            return {}

    try:
        train(ctx, student, EXAMPLES, gentle(tokens), team=team, monitor=Told(), watch=watch)  # type: ignore[arg-type]
    except Interrupted:
        return losses, norms, {}
    named = {n: p.detach().clone() for n, p in student.model.named_parameters() if p.requires_grad}
    return losses, norms, named if team.is_first else {}


def gentle(tokens: int) -> Training:
    """Slower than elsewhere: AdamW's first step is a sign, and of a gradient of nothing but float noise either."""
    fast = training(micro_batch_tokens=tokens)
    return replace(fast, schedule=replace(fast.schedule, peak=1e-3))


def check_equal(found: list[Trained], expected: Trained) -> None:
    losses, norms, values = expected
    for told_losses, told_norms, _ in found:
        assert told_losses == pytest.approx(losses, abs=1e-4)
        assert told_norms == pytest.approx(norms, rel=1e-3)  # some are 40
    assert found[0][2].keys() == values.keys()
    for name, value in values.items():
        assert torch.allclose(found[0][2][name], value, atol=1e-4), name


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    ("stage", "method", "tokens", "size", "architecture"),
    [
        (1, "lora", 4096, 2, "qwen3"),
        (2, "full", 40, 4, "qwen3"),
        (2, "lora", 40, 3, "qwen3"),
        (2, "full", 40, 2, "t5"),
        (3, "full", 40, 3, "llama"),
        (3, "lora", 40, 2, "qwen3"),
        (3, "full", 40, 2, "t5"),
    ],
)
def test_a_training_spread_by_deepspeed_is_that_of_one_process(  # noqa: PLR0917 - cases
    tmp_path: Path, stage: int, method: str, tokens: int, size: int, architecture: Tiny
) -> None:
    """Nine steps of 5, 5 and 2 examples: where a process has none, it must compute all the same."""
    expected = trained(tmp_path / "alone", method=method, tokens=tokens, architecture=architecture)

    def work(_rank: int) -> Trained:
        return trained(
            tmp_path / "many", method=method, stage=stage, tokens=tokens, architecture=architecture
        )

    check_equal(together(size, work, tmp_path), expected)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(("stage", "method"), [(2, "full"), (3, "full"), (3, "lora")])
def test_a_stopped_training_goes_on_as_it_was_and_with_other_numbers_of_processes(
    tmp_path: Path, stage: int, method: str
) -> None:
    """Under the same number with the same bits; alone, and under three and another stage, as one process does."""
    alone_losses, alone_norms, alone = trained(tmp_path / "alone", method=method)

    def work(
        name: str, *, stop_at: int | None = None, stage: int = stage
    ) -> Callable[[int], Trained]:
        def train_one(rank: int) -> Trained:
            own = stop_at if rank == 0 else None
            return trained(tmp_path / name, method=method, stage=stage, stop_at=own)

        return train_one

    unstopped = together(2, work("unstopped"), tmp_path)
    stopped = together(2, work("same", stop_at=4), tmp_path)[0][0]
    assert 0 < len(stopped) < len(alone_losses)
    for name in ("one", "three"):
        shutil.copytree(tmp_path / "same", tmp_path / name)
    done = len(stopped)
    rest = (alone_losses[done:], alone_norms[done:], alone)

    same = together(2, work("same"), tmp_path)

    assert stopped + same[0][0] == unstopped[0][0]
    assert all(torch.equal(same[0][2][name], value) for name, value in unstopped[0][2].items())
    check_equal([trained(tmp_path / "one", method=method)], rest)
    check_equal(together(3, work("three", stage=stage % 3 + 1), tmp_path), rest)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize("stage", [2, 3])
def test_logits_in_pieces_are_one_backward_pass_for_deepspeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    """The processes have different numbers of pieces, and would wait for each other for ever."""
    monkeypatch.setattr(_loss, "_MAX_LOGITS", 1000)
    expected = trained(tmp_path / "alone", method="full")

    def work(_rank: int) -> Trained:
        return trained(tmp_path / "many", method="full", stage=stage)

    check_equal(together(2, work, tmp_path), expected)


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    "zero",
    [
        {"stage": 1, "contiguous_gradients": False, "allgather_partitions": False},
        {"stage": 2, "overlap_comm": True, "reduce_bucket_size": 2e4, "reduce_scatter": False},
        {"stage": 3, "overlap_comm": False, "sub_group_size": 2e4, "stage3_param_persistence_threshold": 0},
    ],
)  # fmt: skip
def test_how_deepspeed_moves_tensors_changes_neither_the_training_nor_its_checkpoints(
    tmp_path: Path, zero: dict[str, Any]
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(json.dumps({"zero_optimization": zero}), encoding="utf-8")
    environment = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(path)}  # fmt: skip
    losses, norms, values = trained(tmp_path / "alone", method="full")

    def work(rank: int) -> Trained:
        own = 4 if rank == 0 else None
        return trained(tmp_path / "many", method="full", environment=environment, stop_at=own)

    stopped = together(3, work, tmp_path)[0][0]
    goes_on = trained(tmp_path / "many", method="full")

    assert stopped == pytest.approx(losses[: len(stopped)], abs=1e-4)
    check_equal([goes_on], (losses[len(stopped) :], norms[len(stopped) :], values))


def break_loss(student: Parts) -> None:
    with torch.no_grad():
        student.output_layer.weight.fill_(float("nan"))


def break_gradient(student: Parts) -> None:
    student.output_layer.weight.register_hook(lambda gradient: gradient * float("inf"))


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(
    ("spoil", "stage", "told"),
    [
        (break_loss, 1, "step 1 of 9 (epoch 1): loss nan, gradient norm nan"),
        (break_loss, 3, "step 1 of 9 (epoch 1): loss nan, gradient norm nan"),
        (break_gradient, 2, "gradient norm inf"),
    ],
)
def test_a_step_that_is_not_finite_stops_all_processes_with_its_examples(
    tmp_path: Path, spoil: Callable[[Parts], None], stage: int, told: str
) -> None:
    def work(_rank: int) -> str:
        try:
            trained(tmp_path / "many", method="full", stage=stage, spoil=spoil)
        except StageError as error:
            return str(error)
        return ""

    first, second = together(2, work, tmp_path)

    assert first == second
    assert told in first
    assert "examples of this step: example-" in first


@pytest.mark.slow
@needs_deepspeed
def test_the_first_process_judges_and_the_best_student_is_what_is_left(tmp_path: Path) -> None:
    """The judge likes the student after the second epoch best."""
    marks = iter((1.0, 3.0, 2.0))

    def judge(_student: Parts, _tell: Tell) -> Sums:
        return Sums(next(marks), 1)

    def work(_rank: int) -> Trained:
        watch = Watch(settings=Validate(), judge=judge, num=1)
        return trained(tmp_path / "many", method="full", stage=2, watch=watch)

    _, _, kept = together(2, work, tmp_path)[0]
    best = load_file(next((tmp_path / "many").rglob("best-6.safetensors")))

    assert kept.keys() == best.keys()
    assert all(torch.equal(kept[name], value) for name, value in best.items())
