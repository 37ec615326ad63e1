"""All that a training needs to go on as if nothing had happened, in one file that is there whole or not at all.

Order, learning rate and random draws are functions of seed and step, so no random state is kept: the step tells them.
The file is safetensors: weights and Adam's moments as tensors, the rest as JSON in its header.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_NAME = "training.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(
    folder: Path,
    facts: Mapping[str, Any],
    *,
    step: int,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state beside the old one and put it in its place in one rename.

    Args:
        folder: where it stands; an older state there is replaced.
        facts: what the training wants back, as JSON holds it.
        step: optimizer steps done.
        parameters: the trained ones, by name, in the order the optimizer was given them.
        optimizer: AdamW over exactly these; a parameter that never had a gradient has no moments.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"weight/{name}": value.detach().cpu() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        moments = optimizer.state.get(parameter, {})
        tensors |= {f"{m}/{name}": moments[m].cpu() for m in _MOMENTS if m in moments}
    data = to_bytes(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        metadata={"facts": json.dumps(dict(facts)), "step": str(step)},
    )
    _write_whole(folder / _NAME, data)


def load_state(
    folder: Path, *, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Put back what `save_state` wrote, and return its facts; None where there is nothing.

    Args:
        folder: as for `save_state`.
        parameters: filled in place.
        optimizer: given its moments.
    """
    import torch
    from safetensors import safe_open

    path = folder / _NAME
    if not path.exists():
        return None
    file: Any
    with safe_open(path, framework="pt") as file, torch.no_grad():
        header = file.metadata()
        step, held = float(header["step"]), set(file.keys())
        facts: dict[str, Any] = json.loads(header["facts"])
        state = {}
        for index, (name, parameter) in enumerate(parameters.items()):
            parameter.copy_(file.get_tensor(f"weight/{name}"))
            if f"{_MOMENTS[0]}/{name}" in held:
                moments = {moment: file.get_tensor(f"{moment}/{name}") for moment in _MOMENTS}
                state[index] = {"step": torch.tensor(step), **moments}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return facts


def _write_whole(path: Path, data: bytes) -> None:
    """Atomic and durable: after a crash the old or the new bytes are there, never half."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
