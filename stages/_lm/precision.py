"""`precision: auto`, resolved: by what the machine is fast at and the width of the model that computes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from kpod.runner.capability import Capability, auto_precision

Precision = Literal["auto", "fp32", "bf16"]


def resolve_precision(
    precision: Precision, capability: Capability, model: Path
) -> Literal["fp32", "bf16"]:
    """What a model computes in on this machine; a precision that the recipe names stays.

    Args:
        precision: as the recipe has it.
        capability: of the machine.
        model: folder of the Model input; read only for `auto`.
    """
    if precision != "auto":
        return precision
    from kpod.stages._lm.artifact import read_spec

    return "bf16" if auto_precision(capability, width=read_spec(model).width) == "bf16" else "fp32"
