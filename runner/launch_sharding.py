"""What an accelerate config says of weights that are spread over processes (FSDP2): what kpod does of it, and what it refuses.

Source of the names: accelerate's `fsdp_config`, which its launcher hands to the processes as FSDP_* in the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kpod.runner.errors import StageError

_EITHER = ("true", "false")
# By setting: what it may be. Students and checkpoints are written whole by the first process, so no other state dict is made.
_ALLOWED = {
    "version": ("2",),
    "reshard_after_forward": _EITHER,
    "cpu_ram_efficient_loading": _EITHER,
    "activation_checkpointing": _EITHER,
    "auto_wrap_policy": ("transformer_based_wrap", "no_wrap"),
    "state_dict_type": ("full_state_dict",),
    "offload_params": ("false",),
    "activation_checkpointing_offload": ("false",),
}
_BLOCKS = "transformer_layer_cls_to_wrap"
_IGNORED = "ignored_modules"


def check_sharding_file(config: Mapping[str, Any], *, where: str) -> None:
    """Refuse what a config file with distributed_type: FSDP asks for and students do not do.

    Args:
        config: the file.
        where: names it.

    Raises:
        StageError: of the first such setting.
    """
    said = config.get("fsdp_config") or {}
    if not isinstance(said, Mapping):
        raise StageError(f"{where} has fsdp_config: {said}, and must have a mapping")
    if config.get("parallelism_config"):
        raise StageError(
            f"{where} has a parallelism_config, but a student's weights are spread over all processes\ndrop it"
        )
    plain = {str(name).removeprefix("fsdp_"): value for name, value in said.items()}
    _check(plain, where=where)
    unknown = sorted(plain.keys() - _ALLOWED.keys() - {_BLOCKS})
    if unknown:
        raise StageError(
            f"{where} has fsdp_{unknown[0]} in its fsdp_config, which a student does not read\n"
            f"allowed: {', '.join(f'fsdp_{name}' for name in (*_ALLOWED, _BLOCKS))}"
        )


def check_sharding_environment(environment: Mapping[str, str]) -> None:
    """As `check_sharding_file`, of what accelerate's launcher told this process.

    Raises:
        StageError: of the first setting that students do not do.
    """
    names = {f"FSDP_{name.upper()}": name for name in (*_ALLOWED, _IGNORED)}
    said = {
        name: environment[variable] for variable, name in names.items() if variable in environment
    }
    where = "the launcher's config"
    _check(said, where=where)
    if said.get(_IGNORED):
        raise StageError(f"{where} has fsdp_{_IGNORED}: {said[_IGNORED]}\ndrop it")


def _check(said: Mapping[str, Any], *, where: str) -> None:
    # accelerate takes version 1 where none is named.
    for name, value in {"version": 1, **said}.items():
        allowed = _ALLOWED.get(name)
        if allowed is not None and str(value).lower() not in allowed:
            raise StageError(
                f"{where} has distributed_type: FSDP with fsdp_{name}: {value}, which students are not trained with\n"
                f"allowed: fsdp_{name}: {' or '.join(_written(name, one) for one in allowed)}"
            )


def _written(name: str, value: str) -> str:
    return value.upper() if name in {"auto_wrap_policy", "state_dict_type"} else value
