"""A DeepSpeed config and a recipe that say the same, and those that do not; DeepSpeed itself is not needed."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from kpod.runner import StageError, ZeroSettings
from kpod.stages.student import _zero
from kpod.stages.student._demand import Demand
from kpod.stages.student._settings import Config
from kpod.stages.student._shape import read_shape
from kpod.stages.student._zero import engine_config
from kpod.stages.student._zero_claims import check_zero
from tests.stages.tiny_models import tiny_files

CONFIG = Config(precision="fp32", learning_rate=1e-4, weight_decay=0.1, schedule="linear")


def settings(*, stage: int = 2, passed: dict[str, Any] | None = None, **claims: Any) -> ZeroSettings:  # fmt: skip
    return ZeroSettings(
        where="zero.json",
        stage=stage,
        passed=passed or {},
        told={"steps_per_print": 10},
        claims=claims,
    )


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"train_batch_size": 16, "gradient_clipping": 1.0, "bf16": {"enabled": False}},
        {"bf16": {"enabled": "auto"}},
        {"optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "weight_decay": 0.1, "betas": [0.9, 0.999], "eps": 1e-8}}},
        {"optimizer": {"type": "AdamW", "params": {"lr": "auto"}}, "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto"}}},
    ],
)  # fmt: skip
def test_what_agrees_with_the_recipe_is_taken(claims: dict[str, Any]) -> None:
    check_zero(settings(**claims), CONFIG, is_judged=True)


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"train_batch_size": 32}, "train_batch_size: 32, but the recipe's batch_size is 16"),
        ({"gradient_clipping": 0.5}, "gradient_clipping: 0.5, but the recipe's grad_clip is 1.0"),
        ({"bf16": {"enabled": True}}, "bf16.enabled: True, but the recipe's precision (auto resolved) in bf16 is False"),
        ({"optimizer": {"type": "Lion"}}, "optimizer.type: lion, but the recipe's optimizer is adamw"),
        ({"optimizer": {"type": "AdamW", "params": {"lr": 3e-4}}}, "optimizer.params.lr: 0.0003, but the recipe's learning_rate is 0.0001"),
        ({"optimizer": {"type": "AdamW", "params": {"betas": [0.9, 0.95]}}}, "optimizer.params.betas: [0.9, 0.95], but the recipe's optimizer with betas is [0.9, 0.999]"),
        ({"optimizer": {"type": "AdamW", "params": {"amsgrad": True}}}, "optimizer.params.amsgrad: True, but the recipe's optimizer with it is None"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler.type: WarmupLR, but the recipe's schedule is linear"),
        ({"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 9}}}, "scheduler.params.total_num_steps: 9, but the recipe's schedule is linear"),
    ],
)  # fmt: skip
def test_what_contradicts_the_recipe_names_both(claims: dict[str, Any], told: str) -> None:
    with pytest.raises(StageError, match=re.escape(f"zero.json has {told}")) as raised:
        check_zero(settings(**claims), CONFIG, is_judged=False)

    assert 'set "auto" there, or change one of them' in str(raised.value)


def test_no_limit_of_the_gradient_is_deepspeed_s_zero() -> None:
    unlimited = Config(precision="fp32", grad_clip=None)
    check_zero(settings(gradient_clipping=0.0), unlimited, is_judged=False)

    assert engine_config(settings(), grad_clip=None, num_trained=9)["gradient_clipping"] == 0.0


@pytest.mark.parametrize("changed", [{"precision": "nf4"}, {"optimizer": "adamw_8bit"}])
def test_deepspeed_has_neither_quantised_weights_nor_quantised_moments(
    changed: dict[str, Any],
) -> None:
    with pytest.raises(StageError, match=r"spread over processes \(DeepSpeed\)"):
        check_zero(settings(), Config(**changed), is_judged=False)


def test_a_student_that_no_process_holds_whole_cannot_be_judged() -> None:
    check_zero(settings(stage=3), CONFIG, is_judged=False)

    with pytest.raises(StageError, match=r"stage: 3, and validation is wired, .*\nset stage: 2"):
        check_zero(settings(stage=3), CONFIG, is_judged=True)


@pytest.mark.parametrize(("stage", "operation"), [(1, "sum"), (2, "sum"), (3, None)])
def test_deepspeed_is_told_to_add_where_it_can_and_that_nothing_is_accumulated(
    stage: int, operation: str | None
) -> None:
    told = engine_config(settings(stage=stage), grad_clip=0.5, num_trained=100)

    assert told.get("gradient_allreduce_op") == operation
    assert told["managed_gradient_accumulation"] is False
    assert told["gradient_accumulation_steps"] == 1
    assert told["gradient_clipping"] == 0.5
    assert told["steps_per_print"] == 10
    assert told["zero_optimization"] == {"stage": stage, "reduce_bucket_size": 100}


def test_an_older_deepspeed_is_refused_because_it_would_average(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_zero, "version", lambda _name: "0.18.3+unknown")

    with pytest.raises(
        StageError,
        match=r"deepspeed is 0.18.3\+unknown, which averages .*\nallowed: 0.19.8 or later: pip install --upgrade",
    ):
        _zero.deepspeed_for(torch.device("cpu"))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_each_of_four_processes_is_forecast_a_quarter_of_the_moments_and_a_copy_of_its_part(
    stage: int,
) -> None:
    files = tiny_files()
    alone = Demand(
        shape=read_shape(files.weights, files.spec), config=Config(method="full", precision="fp32"),
        micro_batch_tokens=64, is_checkpointing=False, longest=32, device="cuda",
    )  # fmt: skip
    blocks = replace(alone, num_shards=4).memory

    whole, part = alone.memory, replace(alone, num_shards=4, zero_stage=stage).memory

    copied = whole.gradients // 4
    assert part.moments == whole.moments // 4
    assert part.weights == copied + (blocks.weights if stage == 3 else whole.weights)
    assert part.gradients == (blocks.gradients if stage == 3 else whole.gradients)


def test_what_the_config_says_of_buckets_stands() -> None:
    told = engine_config(
        settings(passed={"reduce_bucket_size": 2e8}), grad_clip=None, num_trained=100
    )

    assert told["zero_optimization"]["reduce_bucket_size"] == 2e8
