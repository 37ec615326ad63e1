"""All that a training needs to go on as if nothing had happened, in one file that is there whole or not at all.

Order, learning rate and dropout are functions of seed and step, so no random state is kept: the step tells them.
The file is safetensors: weights and Adam's moments as tensors, the rest as JSON in its header.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

_NAME = "training.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(slots=True, kw_only=True)
class Tally:
    """What a training has done so far.

    Args:
        step: optimizer steps done.
        epoch_nats: weighted nats of every epoch begun, summed over its targets.
        epoch_targets: target tokens of every epoch begun.
        processed_tokens: prompt and completion tokens read, without padding.
        padded_tokens: tokens computed, with padding.
        seconds: time spent in steps, over all attempts.
    """

    step: int = 0
    epoch_nats: list[float] = field(default_factory=list)
    epoch_targets: list[int] = field(default_factory=list)
    processed_tokens: int = 0
    padded_tokens: int = 0
    seconds: float = 0.0

    @property
    def losses(self) -> list[float]:
        """Mean nats a target token of every epoch begun."""
        return [nats / n for nats, n in zip(self.epoch_nats, self.epoch_targets, strict=True)]


def save(
    folder: Path,
    tally: Tally,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write the state beside the old one and put it in its place in one rename.

    Args:
        folder: where it stands; an older state there is replaced.
        tally: how far training is.
        parameters: the trained ones, by name, in the order the optimizer was given them.
        optimizer: AdamW over exactly these.
    """
    from safetensors.torch import save as to_bytes

    tensors = {f"weight/{name}": value.detach().cpu() for name, value in parameters.items()}
    for name, parameter in parameters.items():
        moments = optimizer.state[parameter]
        tensors |= {f"{moment}/{name}": moments[moment].cpu() for moment in _MOMENTS}
    data = to_bytes(
        {name: tensor.contiguous() for name, tensor in tensors.items()},
        metadata={"tally": json.dumps(asdict(tally))},
    )
    _write_whole(folder / _NAME, data)


def load(
    folder: Path,
    parameters: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
) -> Tally:
    """Put back what `save` wrote; a new tally where there is nothing.

    Args:
        folder: as for `save`.
        parameters: filled in place.
        optimizer: given its moments.
    """
    import torch
    from safetensors import safe_open

    path = folder / _NAME
    if not path.exists():
        return Tally()
    file: Any
    with safe_open(path, framework="pt") as file, torch.no_grad():
        tally = Tally(**json.loads(file.metadata()["tally"]))
        state = {}
        for index, (name, parameter) in enumerate(parameters.items()):
            parameter.copy_(file.get_tensor(f"weight/{name}"))
            moments = {moment: file.get_tensor(f"{moment}/{name}") for moment in _MOMENTS}
            state[index] = {"step": torch.tensor(float(tally.step)), **moments}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return tally


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
