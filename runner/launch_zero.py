"""What an accelerate config with distributed_type: DEEPSPEED asks for: what kpod takes of it, what a recipe must agree with, what is refused.

Source of the names: accelerate's `deepspeed_config`, which its launcher hands to the processes as ACCELERATE_DEEPSPEED_* in the
environment, and DeepSpeed's own JSON (deepspeed.ai/docs/config-json). "auto" is transformers' word for: as the trainer has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kpod.runner.errors import MissingExtra, StageError

_KIND = "distributed_type: DEEPSPEED"
_AUTO = "auto"
_STAGES = (1, 2, 3)
# How DeepSpeed moves tensors about: handed on as they are.
_PASSED = (
    "stage", "allgather_partitions", "allgather_bucket_size", "overlap_comm", "reduce_scatter", "reduce_bucket_size",
    "contiguous_gradients", "sub_group_size", "stage3_max_live_parameters", "stage3_max_reuse_distance",
    "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold",
)  # fmt: skip
# True of every student: written whole, and by AdamW of torch.
_SETTLED = ("stage3_gather_16bit_weights_on_model_save",)
_ROUND_ROBIN = "round_robin_gradients"
_OFFLOADED = ("offload_optimizer", "offload_param")
# What DeepSpeed prints, into the log of each process.
_TOLD = ("steps_per_print", "wall_clock_breakdown")
_CLAIMS = ("train_batch_size", "gradient_clipping", "optimizer", "scheduler", "bf16")
_CUTS = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
_HALVES = ("fp16", "amp")
_UNTESTED = ("zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer")
_TOP = ("zero_optimization", *_CLAIMS, *_CUTS, *_HALVES, *_TOLD, *_UNTESTED)
# accelerate's own fields, and what they are in DeepSpeed's JSON.
_FIELDS = {
    "zero_stage": ("zero_optimization", "stage"),
    "offload_optimizer_device": ("zero_optimization", "offload_optimizer", "device"),
    "offload_param_device": ("zero_optimization", "offload_param", "device"),
    "gradient_clipping": ("gradient_clipping",),
    "gradient_accumulation_steps": ("gradient_accumulation_steps",),
}
# How models are loaded and saved, and who starts processes on other machines: nothing that a student's processes read.
_ELSEWHERE = (
    "zero3_init_flag", "zero3_save_16bit_model", "deepspeed_multinode_launcher", "deepspeed_hostfile",
    "deepspeed_inclusion_filter", "deepspeed_exclusion_filter", "offload_optimizer_nvme_path", "offload_param_nvme_path",
)  # fmt: skip
_FILE = "deepspeed_config_file"
_VARIABLES = {
    "zero_stage": "ACCELERATE_DEEPSPEED_ZERO_STAGE",
    "offload_optimizer_device": "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE",
    "offload_param_device": "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE",
    "gradient_clipping": "ACCELERATE_GRADIENT_CLIPPING",
    "gradient_accumulation_steps": "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
    "deepspeed_moe_layer_cls_names": "ACCELERATE_DEEPSPEED_MOE_LAYER_CLS_NAMES",
    _FILE: "ACCELERATE_DEEPSPEED_CONFIG_FILE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroSettings:
    """How DeepSpeed is to spread a training over processes.

    Args:
        where: the config that says so, for messages.
        stage: 1: moments, 2: gradients too, 3: weights too.
        passed: `zero_optimization` without its stage, as DeepSpeed reads it.
        told: what DeepSpeed prints.
        claims: settings that belong to the recipe, which must have the same.
    """

    where: str
    stage: int
    passed: Mapping[str, Any]
    told: Mapping[str, Any]
    claims: Mapping[str, Any]


def check_zero_installed() -> None:
    """Say what to install.

    Raises:
        MissingExtra: DeepSpeed is not there.
    """
    if find_spec("deepspeed") is None:
        raise MissingExtra("deepspeed", extra="deepspeed", needed_by=_KIND)


def zero_of_file(config: Mapping[str, Any], *, where: str) -> ZeroSettings:
    """What a config file says.

    Args:
        config: the file, with distributed_type: DEEPSPEED.
        where: names it.

    Raises:
        StageError: it asks for what students do not do.
    """
    fields = config.get("deepspeed_config") or {}
    if not isinstance(fields, Mapping):
        raise StageError(f"{where} has deepspeed_config: {fields}, and must have a mapping")
    precision = str(config.get("mixed_precision") or "no")
    if precision in {"fp16", "fp8"}:
        raise _half(where, f"mixed_precision: {precision}")
    return _settings(fields, where=where)


def zero_of_environment(environment: Mapping[str, str]) -> ZeroSettings:
    """As `zero_of_file`, of what accelerate's launcher told this process.

    Raises:
        StageError: it was told of what students do not do.
    """
    fields = {
        name: _number(environment[variable])
        for name, variable in _VARIABLES.items()
        if variable in environment
    }
    return _settings(fields, where="the launcher's config")


def _settings(fields: Mapping[str, Any], *, where: str) -> ZeroSettings:
    unknown = sorted(fields.keys() - _FIELDS.keys() - {*_ELSEWHERE, _FILE})
    if unknown:
        raise StageError(
            f"{where} has {unknown[0]} in its deepspeed_config, which a student does not read\n"
            f"allowed: {', '.join((_FILE, *_FIELDS, *_ELSEWHERE[:2]))}"
        )
    if fields.get(_FILE):
        path = Path(str(fields[_FILE]))
        beside = [name for name in _FIELDS if name in fields]
        if beside:
            raise StageError(
                f"{where} has {beside[0]} beside {_FILE}: {path}, which says it too\ndrop one of them"
            )
        return _checked(_read(path, where=where), where=str(path))
    said: dict[str, Any] = {"zero_optimization": {"stage": 2}}  # accelerate's default
    for name, places in _FIELDS.items():
        if fields.get(name) is not None:
            inner = said
            for place in places[:-1]:
                inner = inner.setdefault(place, {})
            inner[places[-1]] = fields[name]
    return _checked(said, where=where)


def _read(path: Path, *, where: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        said = (error.strerror or "").lower()
        raise StageError(
            f"{where} names the {_FILE} {path}, which cannot be read: {said}\n"
            "a relative path is taken from the folder that kpod is started in, as accelerate does"
        ) from error
    except ValueError as error:
        raise StageError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise StageError(f"{path} holds {type(found).__name__}, and must hold a mapping")
    return found


def _checked(said: Mapping[str, Any], *, where: str) -> ZeroSettings:
    unknown = sorted(said.keys() - set(_TOP))
    if unknown:
        raise StageError(
            f"{where} has {unknown[0]}, which a student does not do with DeepSpeed\nallowed: {', '.join(_TOP)}"
        )
    for name in _HALVES:
        if _is_enabled(said.get(name)):
            raise _half(where, f"{name}: enabled")
    for name in _CUTS:
        if said.get(name, _AUTO) not in {_AUTO, *((1,) if name == _CUTS[1] else ())}:
            raise StageError(
                f"{where} has {name}: {said[name]}, but a step is cut into micro-batches by the recipe's micro_batch_tokens\n"
                f'set "{_AUTO}" or drop it'
            )
    zero = _checked_zero(said.get("zero_optimization"), where=where)
    return ZeroSettings(
        where=where, stage=zero.pop("stage"), passed=zero,
        told={name: said[name] for name in _TOLD if said.get(name, _AUTO) != _AUTO},
        claims={name: said[name] for name in _CLAIMS if said.get(name, _AUTO) != _AUTO},
    )  # fmt: skip


def _checked_zero(said: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(said, Mapping) or said.get("stage") not in _STAGES:
        stage = said.get("stage") if isinstance(said, Mapping) else None
        raise StageError(
            f"{where} has zero_optimization.stage: {stage}\nallowed: 1, 2, 3; for whole copies distributed_type: MULTI_GPU"
        )
    for name in _OFFLOADED:
        device = (said.get(name) or {}).get("device", "none")
        if device != "none":
            raise StageError(
                f"{where} has {name}.device: {device}, which students are not trained with\n"
                "drop it, or hold less: method: lora with precision: nf4 and distributed_type: MULTI_GPU"
            )
    if said.get(_ROUND_ROBIN) is True:  # seen in deepspeed 0.19.8
        raise StageError(
            f"{where} has zero_optimization.{_ROUND_ROBIN}: true, with which DeepSpeed puts moments together wrongly, so that no"
            " checkpoint could go on\ndrop it"
        )
    unknown = sorted(said.keys() - {*_PASSED, *_OFFLOADED, *_SETTLED, _ROUND_ROBIN})
    if unknown:
        raise StageError(
            f"{where} has zero_optimization.{unknown[0]}, which students are not trained with\n"
            f"allowed: {', '.join((*_PASSED, *_SETTLED))}"
        )
    if said["stage"] == 1 and said.get("overlap_comm") is True:
        raise StageError(
            f"{where} has zero_optimization.overlap_comm: true with stage: 1, whose gradients are added up once a step\n"
            "drop it, or set stage: 2"
        )
    return {name: said[name] for name in _PASSED if said.get(name, _AUTO) != _AUTO}


def _half(where: str, got: str) -> StageError:
    return StageError(
        f"{where} has {got}, which students are not trained in\n"
        "allowed: no half precision there, and precision: bf16 or fp32 in the recipe"
    )


def _is_enabled(said: Any) -> bool:
    return isinstance(said, Mapping) and said.get("enabled", False) is True


def _number(text: str) -> Any:
    """A word of the environment: a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
