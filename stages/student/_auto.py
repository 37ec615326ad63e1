"""A student's `auto` settings, resolved by the machine, the model's shape and the memory there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.stages._lm.precision import resolve_precision

if TYPE_CHECKING:
    from kpod.runner.capability import Capability
    from kpod.stages.student._settings import Config


def resolve(config: Config, capability: Capability, model: Path) -> Config:
    """The settings with every `auto` that can change the result replaced.

    Args:
        config: as the recipe has it.
        capability: of the machine.
        model: folder of the model to train.
    """
    precision: Any = config.precision
    if precision == "auto":
        precision = resolve_precision("auto", capability, model)
    tokens = 4096 if config.micro_batch_tokens == "auto" else config.micro_batch_tokens
    return replace(config, precision=precision, micro_batch_tokens=tokens)
