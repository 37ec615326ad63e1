"""`precision: auto`, resolved: by what the machine is fast at, the width of the model that computes, and the memory there is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner.capability import Capability, auto_precision, read_capability
from kpod.stages._lm.family import CAUSAL_ENDINGS

if TYPE_CHECKING:
    from kpod.stages._lm.artifact import ModelSpec

Precision = Literal["auto", "fp32", "bf16"]
Computed = Literal["fp32", "bf16"]
StudentPrecision = Literal["auto", "fp32", "bf16", "nf4", "nf4_double", "int8"]
Method = Literal["lora", "full"]
QUANTISED = ("nf4", "nf4_double", "int8")
# Beside the weights a training needs room for activations, logits and the adapter's moments; our choice.
_WEIGHTS_FRAC = 0.6
_WEIGHT_B = {"fp32": 4, "bf16": 2}


def resolve_precision(precision: Precision, capability: Capability, model: Path) -> Computed:
    """What a model computes in on this machine; a precision that the recipe names stays.

    Args:
        precision: as the recipe has it.
        capability: of the machine.
        model: folder of the Model input; read only for `auto`.
    """
    return precision if precision != "auto" else _fastest(capability, _spec(model))


class Resolved(NamedTuple):
    """How a student is held and computed.

    Args:
        precision: fp32 or bf16, or how its frozen weights are quantised.
        compute: what quantised weights are computed with; "auto" where nothing is quantised.
    """

    precision: StudentPrecision
    compute: Precision


def resolve_student_precision(
    precision: StudentPrecision,
    compute: Precision,
    capability: Capability,
    model: Path,
    *,
    method: Method,
) -> Resolved:
    """How a student is held and computed on this machine; what the recipe names stays.

    `auto` is the faster of fp32 and bf16. Where the weights then take more than 60 % of the device's memory, and they stay
    frozen under an adapter, it is nf4_double: 4 bits save memory, and on a CPU cost time (PRACTICE 2).

    Args:
        precision: as the recipe has it.
        compute: likewise.
        capability: of the machine.
        model: folder of the Model input; read only for `auto`.
        method: lora or full.
    """
    if precision == "auto":
        precision = _automatic(capability, _spec(model), method)
    if precision not in QUANTISED:
        return Resolved(precision, "auto")
    return Resolved(precision, resolve_precision(compute, capability, model))


def explain_precision(
    precision: StudentPrecision,
    spec: ModelSpec,
    *,
    method: Method,
    capability: Capability | None = None,
) -> str:
    """Why a student is held so, in one sentence: `bf16 because …`; or what `auto` would have been.

    Args:
        precision: resolved.
        spec: of the model to train.
        method: lora or full.
        capability: of the machine; None: of this one.
    """
    capability = capability or read_capability()
    automatic = _automatic(capability, spec, method)
    fastest = _fastest(capability, spec)
    machine = (
        f"{capability.device} {'with' if capability.has_fast_bf16 else 'without'} bf16 in hardware"
    )
    reason = f"a model of width {spec.width} on {machine}"
    if precision != automatic:
        return f"{precision} because the recipe says so; auto is {automatic} for {reason}"
    if precision in _WEIGHT_B:
        return f"{precision} because it is the faster for {reason}"
    weights_gb = spec.num_parameters * _WEIGHT_B[fastest] / 1e9
    memory_gb = (_device_memory_b(capability) or 0) / 1e9
    return (
        f"{precision} because {weights_gb:.1f} GB of weights in {fastest} are more than"
        f" {_WEIGHTS_FRAC:.0%} of {memory_gb:.1f} GB"
    )


def _spec(model: Path) -> ModelSpec:
    from kpod.stages._lm.artifact import read_spec

    return read_spec(model)


def _fastest(capability: Capability, spec: ModelSpec) -> Computed:
    return "bf16" if auto_precision(capability, width=spec.width) == "bf16" else "fp32"


def _automatic(
    capability: Capability, spec: ModelSpec, method: Method
) -> Literal["fp32", "bf16", "nf4_double"]:
    fastest = _fastest(capability, spec)
    memory_b = _device_memory_b(capability)
    can_be_quantised = method == "lora" and spec.architecture.endswith(CAUSAL_ENDINGS)
    if not can_be_quantised or memory_b is None:
        return fastest
    weights_b = spec.num_parameters * _WEIGHT_B[fastest]
    return "nf4_double" if weights_b > _WEIGHTS_FRAC * memory_b else fastest


def _device_memory_b(capability: Capability) -> int | None:
    """Memory where the weights lie; None where it is not known."""
    return capability.device_memory_b if capability.device == "cuda" else capability.memory_b
