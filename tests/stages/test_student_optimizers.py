"""AdamW with moments in fp32 and in 8 bits: the same groups, the same bits after a stop, and honest about paging."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, MissingExtra
from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.training_state import load_state, save_state
from kpod.stages.student import _optimizer
from kpod.stages.student._adapter import Lora, add_lora
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._loss import take_apart
from kpod.stages.student._optimizer import make_optimizer, optimizer_remark, trainable
from kpod.stages.student._schedule import Schedule
from kpod.stages.student._settings import OptimizerName
from kpod.stages.student._training import Training
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakePlacement
from tests.stages.test_student_causal_lm import FAST, context, student_bytes
from tests.stages.tiny_models import tiny_files

# Width 32 times rank 128 are the 4,096 values from which a moment is kept in 8 bits.
WIDE = Lora(rank=128, alpha=128.0, dropout=0.1)
NAMES: tuple[OptimizerName, ...] = ("adamw", "adamw_8bit", "paged_adamw_8bit")


def training(name: OptimizerName) -> Training:
    return Training(
        plan=StepPlan(num_examples=4, batch_size=2, num_steps=2, seed=0),
        schedule=Schedule(name="constant", peak=1e-2, warmup_frac=0.0, num_steps=2),
        normalise="targets", weight_decay=0.1, grad_clip=None, micro_batch_tokens=64, checkpoint_every_s=1e9,
        optimizer=name,
    )  # fmt: skip


def made(name: OptimizerName) -> tuple[dict[str, torch.nn.Parameter], Any]:
    """A DoRA, which has matrices and vectors, with its optimizer."""
    lora = replace(WIDE, dora=True, targets=("q_proj",))
    model = add_lora(load_lm(tiny_files(), precision="fp32", device="cpu"), lora, seed=1)
    student = take_apart(model, precision="fp32", probe_ids=(1, 2, 3))
    parameters = trainable(student)
    return parameters, make_optimizer(parameters, training(name), student)


def stepped(parameters: dict[str, torch.nn.Parameter], optimizer: Any, *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
def test_a_training_that_was_stopped_ends_with_the_same_bits(
    name: OptimizerName, tmp_path: Path
) -> None:
    config = replace(FAST, optimizer=name, lora=WIDE)
    whole = student_bytes(context(config))
    with pytest.raises(Interrupted):
        CausalLm().run(context(config, root=tmp_path, stop_at=3))

    assert student_bytes(context(config, root=tmp_path)) == whole


@pytest.mark.parametrize("name", NAMES)
def test_the_state_that_was_saved_is_the_state_that_comes_back(
    name: OptimizerName, tmp_path: Path
) -> None:
    parameters, optimizer = made(name)
    stepped(parameters, optimizer, seed=0)
    save_state(tmp_path, {"a": 1}, step=1, parameters=parameters, optimizer=optimizer)
    others, fresh = made(name)

    facts = load_state(tmp_path, parameters=others, optimizer=fresh)
    for each, one in ((parameters, optimizer), (others, fresh)):
        stepped(each, one, seed=1)

    assert facts == {"a": 1}
    for key, parameter in parameters.items():
        assert torch.equal(parameter, others[key])
        for slot, value in optimizer.state[parameter].items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(fresh.state[others[key]][slot]))  # fmt: skip


@pytest.mark.parametrize("name", NAMES[1:])
def test_moments_of_4096_values_are_kept_in_a_byte_each_and_smaller_ones_in_fp32(
    name: OptimizerName,
) -> None:
    parameters, optimizer = made(name)
    stepped(parameters, optimizer, seed=0)

    found = {
        (parameter.numel() >= 4096, optimizer.state[parameter]["state1"].dtype)
        for parameter in parameters.values()
    }

    assert found == {(True, torch.uint8), (False, torch.float32)}


def test_every_optimizer_decays_matrices_only() -> None:
    for name in NAMES:
        optimizer = made(name)[1]
        groups = [
            (group["weight_decay"], group["betas"], group["eps"]) for group in optimizer.param_groups
        ]  # fmt: skip

        assert groups == [(0.1, (0.9, 0.999), 1e-8), (0.0, (0.9, 0.999), 1e-8)]
        assert {value.dim() for value in optimizer.param_groups[1]["params"]} == {1}


def test_8_bits_learn_about_as_much_as_32() -> None:
    losses = []
    for name in NAMES[:2]:
        ctx = context(replace(FAST, optimizer=name, lora=WIDE))
        CausalLm().run(ctx)
        losses.append(ctx.notes["losses"])

    # Rounding a moment to 8 bits, within a block of 256, moves an update by some per cent at most.
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1][-1] < losses[1][0]


def test_paging_on_a_cpu_is_told_and_not_done() -> None:
    config = replace(FAST, optimizer="paged_adamw_8bit", max_steps=1)
    ctx = context(config, placement=FakePlacement(device="cpu"))
    CausalLm().run(ctx)

    said = "paged_adamw_8bit ran as adamw_8bit: paging means nothing on a CPU"
    assert ctx.notes["optimizer"] == said
    assert optimizer_remark("paged_adamw_8bit", device="cuda") is None
    assert optimizer_remark("adamw_8bit", device="cpu") is None


def test_a_missing_library_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_optimizer, "find_spec", lambda _: None)

    with pytest.raises(MissingExtra, match="optimizer: adamw_8bit needs the library bitsandbytes"):
        made("adamw_8bit")
