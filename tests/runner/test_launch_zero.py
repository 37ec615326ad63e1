"""What an accelerate config with distributed_type: DEEPSPEED may say; DeepSpeed itself is not needed to read it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import MissingExtra, StageError
from kpod.runner import launch_plan as launch_plan_module
from kpod.runner import launch_zero as launch_zero_module
from kpod.runner.launch_plan import launch_plan
from kpod.runner.launch_zero import ZeroSettings, zero_of_environment, zero_of_file
from kpod.runner.recipe import Placement

# As guides for transformers have it.
USUAL = {
    "fp16": {"enabled": "auto", "loss_scale": 0},
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupCosineLR", "params": {"warmup_num_steps": "auto"}},
    "zero_optimization": {
        "stage": 2, "offload_optimizer": {"device": "none"}, "allgather_partitions": True, "allgather_bucket_size": 2e8,
        "overlap_comm": True, "reduce_scatter": True, "reduce_bucket_size": "auto", "contiguous_gradients": True,
    },
    "gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "steps_per_print": 2000,
    "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "wall_clock_breakdown": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it is must not matter here."""
    monkeypatch.setattr(launch_zero_module, "find_spec", lambda _name: object())


def accelerate(**fields: Any) -> dict[str, Any]:
    return {"distributed_type": "DEEPSPEED", "deepspeed_config": fields}


def json_file(folder: Path, **settings: Any) -> str:
    path = folder / "zero.json"
    path.write_text(json.dumps({**USUAL, **settings}), encoding="utf-8")
    return str(path)


def test_what_accelerate_config_asks_for_is_read() -> None:
    found = zero_of_file(
        accelerate(
            zero_stage=3, gradient_accumulation_steps=1, gradient_clipping=1.0, zero3_init_flag=True,
            zero3_save_16bit_model=True, offload_optimizer_device="none", offload_param_device="none",
        ),
        where="a.yaml",
    )  # fmt: skip

    assert found == ZeroSettings(
        where="a.yaml", stage=3, passed={}, told={}, claims={"gradient_clipping": 1.0}
    )


def test_a_deepspeed_file_is_read_and_auto_is_the_recipe_s(tmp_path: Path) -> None:
    path = json_file(tmp_path)

    found = zero_of_file(accelerate(deepspeed_config_file=path), where="a.yaml")

    assert found == ZeroSettings(
        where=path, stage=2,
        passed={
            "allgather_partitions": True, "allgather_bucket_size": 2e8, "overlap_comm": True, "reduce_scatter": True,
            "contiguous_gradients": True,
        },
        told={"steps_per_print": 2000, "wall_clock_breakdown": False},
        claims={name: USUAL[name] for name in ("optimizer", "scheduler", "bf16")},
    )  # fmt: skip


def test_the_launcher_s_environment_says_the_same_as_the_file(tmp_path: Path) -> None:
    path = json_file(tmp_path)

    assert zero_of_environment({"ACCELERATE_DEEPSPEED_CONFIG_FILE": path}) == zero_of_file(
        accelerate(deepspeed_config_file=path), where="a.yaml"
    )
    assert zero_of_environment(
        {
            "ACCELERATE_DEEPSPEED_ZERO_STAGE": "1", "ACCELERATE_GRADIENT_CLIPPING": "0.5",
            "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "1",
        }
    ) == zero_of_file(
        accelerate(zero_stage=1, gradient_clipping=0.5), where="the launcher's config"
    )  # fmt: skip
    assert zero_of_environment({}).stage == 2  # accelerate's default


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"zero_stage": 0}, "zero_optimization.stage: 0\nallowed: 1, 2, 3; for whole copies distributed_type: MULTI_GPU"),
        ({"offload_optimizer_device": "cpu"}, "offload_optimizer.device: cpu, which students are not trained with\ndrop it"),
        ({"offload_param_device": "nvme"}, "offload_param.device: nvme, which students are not trained with"),
        ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps: 4, but a step is cut into micro-batches by the recipe's micro_batch_tokens"),
        ({"deepspeed_moe_layer_cls_names": "Moe"}, "has deepspeed_moe_layer_cls_names in its deepspeed_config, which a student does not read"),
        ({"deepspeed_config_file": "/nowhere.json"}, "names the deepspeed_config_file /nowhere.json, which cannot be read: no such file or directory"),
        ({"deepspeed_config_file": "a.json", "zero_stage": 2}, "has zero_stage beside deepspeed_config_file: a.json, which says it too"),
    ],
)  # fmt: skip
def test_fields_of_accelerate_that_students_do_not_do_are_refused(
    fields: dict[str, Any], told: str
) -> None:
    with pytest.raises(StageError, match=told):
        zero_of_file(accelerate(**fields), where="a.yaml")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fp16": {"enabled": True}}, "has fp16: enabled, which students are not trained in"),
        ({"amp": {"enabled": True}}, "has amp: enabled"),
        ({"train_micro_batch_size_per_gpu": 4}, "train_micro_batch_size_per_gpu: 4, but a step is cut"),
        ({"tensor_parallel": {}}, "has tensor_parallel, which a student does not do with DeepSpeed\nallowed: zero_optimization, "),
        ({"zero_optimization": None}, "zero_optimization.stage: None"),
        ({"zero_optimization": {"stage": 2, "cpu_offload": True}}, "has zero_optimization.cpu_offload, which students are not trained with"),
        ({"zero_optimization": {"stage": 2, "round_robin_gradients": True}}, "round_robin_gradients: true, with which DeepSpeed puts moments together wrongly, .*\ndrop it"),
        ({"zero_optimization": {"stage": 1, "overlap_comm": True}}, "overlap_comm: true with stage: 1, .*\ndrop it, or set stage: 2"),
    ],
)  # fmt: skip
def test_settings_of_deepspeed_that_students_do_not_do_are_refused(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    path = json_file(tmp_path, **settings)

    with pytest.raises(StageError, match=told) as raised:
        zero_of_file(accelerate(deepspeed_config_file=path), where="a.yaml")

    assert str(raised.value).startswith(path)


@pytest.mark.parametrize(
    ("text", "told"), [("{", "is no JSON: "), ("[1]", "holds list, and must hold a mapping")]
)
def test_a_deepspeed_file_that_cannot_be_read_is_named(
    tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(StageError, match=f"{path} {told}"):
        zero_of_file(accelerate(deepspeed_config_file=str(path)), where="a.yaml")


def test_half_precision_of_accelerate_is_refused() -> None:
    with pytest.raises(StageError, match=r"a.yaml has mixed_precision: fp16, which students"):
        zero_of_file({**accelerate(zero_stage=2), "mixed_precision": "fp16"}, where="a.yaml")


def test_such_a_config_is_launched_by_accelerate_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with one processor as well."""
    monkeypatch.setattr(launch_plan_module, "check_machine", lambda *_, **__: None)
    path = tmp_path / "accelerate.json"
    path.write_text(
        json.dumps({**accelerate(zero_stage=2), "num_processes": 2, "use_cpu": True}),
        encoding="utf-8",
    )

    plan = launch_plan(Placement(accelerate=str(path)))

    assert (plan.num_processes, plan.device) == (2, "cpu")
    assert "--use_deepspeed" in plan.words
    assert "--multi_gpu" not in plan.words


def test_who_has_no_deepspeed_is_told_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch_zero_module, "find_spec", lambda _name: None)
    path = tmp_path / "accelerate.json"
    path.write_text(json.dumps(accelerate(zero_stage=2)), encoding="utf-8")

    with pytest.raises(
        MissingExtra, match="distributed_type: DEEPSPEED needs the library deepspeed"
    ) as raised:
        launch_plan(Placement(accelerate=str(path)))

    assert 'pip install "kpod[deepspeed]"' in str(raised.value)
