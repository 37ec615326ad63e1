"""How a student is to be spread over its processes (FSDP2, or DeepSpeed), as accelerate's launcher tells them.

Source of the names: accelerate's `fsdp_config` and `deepspeed_config`; the runner has refused what is not built.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.runner import StageError, ZeroSettings, zero_of_environment
from kpod.stages._lm.precision import QUANTISED
from kpod.stages._lm.processes import ranks

if TYPE_CHECKING:
    from kpod.stages.student._settings import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharding:
    """How weights are spread.

    Args:
        blocks: classes of the modules that are gathered one after the other; empty: those that the model names itself
            (transformers' `_no_split_modules`); None: all weights are gathered at once.
        is_resharded: whether a block's weights are given back after its forward pass, and gathered again backward.
        is_loaded_in_turn: whether one process after the other loads the model, so that main memory holds it once.
        is_checkpointing: whether activations are computed twice, whatever the recipe says.
    """

    blocks: tuple[str, ...] | None
    is_resharded: bool = True
    is_loaded_in_turn: bool = False
    is_checkpointing: bool = False


def sharding_asked(environment: Mapping[str, str] | None = None) -> Sharding | None:
    """What the launcher of this process said; None where it stands alone, or every process holds all weights.

    Args:
        environment: of the process; None: this one's.
    """
    said = os.environ if environment is None else environment
    if not _is_on(said, "ACCELERATE_USE_FSDP") or ranks() is None:
        return None
    named = said.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "")
    # accelerate wraps nothing where no policy is named.
    is_wrapped = said.get("FSDP_AUTO_WRAP_POLICY", "NO_WRAP").upper() != "NO_WRAP"
    blocks = tuple(name.strip() for name in named.split(",") if name.strip())
    return Sharding(
        blocks=blocks if is_wrapped else None,
        is_resharded=_is_on(said, "FSDP_RESHARD_AFTER_FORWARD", default="true"),
        is_loaded_in_turn=_is_on(said, "FSDP_CPU_RAM_EFFICIENT_LOADING"),
        is_checkpointing=_is_on(said, "FSDP_ACTIVATION_CHECKPOINTING"),
    )


def zero_asked(environment: Mapping[str, str] | None = None) -> ZeroSettings | None:
    """As `sharding_asked`, of DeepSpeed.

    Args:
        environment: of the process; None: this one's.
    """
    said = os.environ if environment is None else environment
    if not _is_on(said, "ACCELERATE_USE_DEEPSPEED") or ranks() is None:
        return None
    return zero_of_environment(said)


def check_shardable(config: Config, *, by: str) -> None:
    """Refuse settings that weights in pieces do not go with.

    Args:
        config: of the student.
        by: what spreads them.

    Raises:
        StageError: quantised weights, or an optimizer of bitsandbytes: both know whole tensors only.
    """
    if config.precision in QUANTISED:
        raise StageError(
            f"precision is {config.precision}, but weights that are spread over processes ({by}) cannot be quantised\n"
            "set precision: bf16 or fp32, or distributed_type: MULTI_GPU in the accelerate config"
        )
    if config.optimizer != "adamw":
        raise StageError(
            f"optimizer is {config.optimizer}, but weights that are spread over processes ({by}) have moments in fp32\n"
            "set optimizer: adamw, or distributed_type: MULTI_GPU in the accelerate config"
        )


def _is_on(environment: Mapping[str, str], name: str, *, default: str = "") -> bool:
    return environment.get(name, default).lower() in {"1", "true", "yes", "on"}
