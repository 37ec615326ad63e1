"""All that a training needs to go on as if nothing had happened, in one file that is there whole or not at all.

Order, learning rate and random draws are functions of seed and step, so no random state is kept: the step tells them.
The file is safetensors: weights and all that the optimizer keeps (AdamW's moments; in 8 bits also their scales and code
books) as tensors, the rest as JSON in its header.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kpod.runner import StageError
from kpod.stages._lm.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

_NAME = "training.safetensors"


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
        optimizer: over exactly these; a parameter that never had a gradient has no state.
    """
    import torch

    tensors = {f"weight/{name}": value.detach().cpu() for name, value in parameters.items()}
    numbers: dict[str, dict[str, float]] = {}
    for name, parameter in parameters.items():
        for slot, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                tensors[f"state/{slot}/{name}"] = value.detach().cpu()
            else:
                numbers.setdefault(name, {})[slot] = value
    header = {"facts": json.dumps(dict(facts)), "step": str(step), "numbers": json.dumps(numbers)}
    write_whole(folder / _NAME, _apart(tensors), metadata=header)


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each in memory of its own, as safetensors wants it: 8-bit moments share their code books."""
    seen: set[int] = set()
    found = {}
    for name, tensor in tensors.items():
        whole = tensor.contiguous()
        found[name] = whole.clone() if whole.data_ptr() in seen else whole
        seen.add(whole.data_ptr())
    return found


def load_state(
    folder: Path, *, parameters: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Put back what `save_state` wrote, and return its facts; None where there is nothing.

    Args:
        folder: as for `save_state`.
        parameters: filled in place.
        optimizer: given its state.

    Raises:
        UnreadableState: as `state_facts`; nothing was changed.
    """
    import torch
    from safetensors import safe_open

    facts = state_facts(folder, parameters=parameters)
    if facts is None:
        return None
    file: Any
    with safe_open(folder / _NAME, framework="pt") as file, torch.no_grad():
        states: dict[str, dict[str, Any]] = json.loads(file.metadata()["numbers"])
        for key in file.keys():  # noqa: SIM118 - the file is no mapping
            kind, _, rest = key.partition("/")
            if kind == "weight":
                parameters[rest].copy_(file.get_tensor(key))
            else:
                slot, _, name = rest.partition("/")
                states.setdefault(name, {})[slot] = file.get_tensor(key)
    state = {index: states[name] for index, name in enumerate(parameters) if name in states}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    if getattr(optimizer, "is_paged", False):
        _page_again(optimizer)
    return facts


def _page_again(optimizer: Any) -> None:
    """Paged moments lie in memory of their own kind: let the optimizer make it, and copy what was kept into it."""
    for group_index, group in enumerate(optimizer.param_groups):
        for index, parameter in enumerate(group["params"]):
            kept = optimizer.state.pop(parameter, None)
            if not kept:
                continue
            optimizer.init_state(group, parameter, group_index, index)
            fresh = optimizer.state[parameter]
            for slot, value in kept.items():
                if hasattr(value, "shape"):
                    fresh[slot].copy_(value)
                else:
                    fresh[slot] = value


class UnreadableState(StageError):
    """What stands where a state should stand is torn, or belongs to another training."""


def state_facts(folder: Path, *, parameters: Mapping[str, torch.Tensor]) -> dict[str, Any] | None:
    """The facts of the state that stands there, which `load_state` can put back; None where there is none. Changes nothing.

    Raises:
        UnreadableState: the file is cut short, no state, or holds other weights than these.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / _NAME
    if not path.exists():
        return None
    file: Any
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            facts: dict[str, Any] = json.loads(header["facts"])
            json.loads(header["numbers"])
            shapes = {
                name: tuple(file.get_slice(name).get_shape())
                for name in file.keys()  # noqa: SIM118 - the file is no mapping
                if name.startswith("weight/")
            }
    except (SafetensorError, KeyError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise UnreadableState(f"{path.name} is cut short or no checkpoint ({said})") from error
    if shapes != {f"weight/{name}": tuple(value.shape) for name, value in parameters.items()}:
        raise UnreadableState(f"{path.name} holds the weights of another training")
    return facts
