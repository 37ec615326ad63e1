"""The trained weights of the best student so far, in a file of their own beside the checkpoint.

The file's name says after which step, so that the checkpoint's judgements and the weights never disagree: the new file is
written first, then the checkpoint that names it, and only then the old one is removed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.stages._lm.whole_file import write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


def _path(folder: Path, step: int) -> Path:
    return folder / f"best-{step}.safetensors"


def save_best(folder: Path, parameters: Mapping[str, torch.Tensor], *, step: int) -> None:
    """Write the weights as they are after so many steps."""
    held = {name: value.detach().cpu().contiguous() for name, value in parameters.items()}
    write_whole(_path(folder, step), held)


def drop_others(folder: Path, *, step: int) -> None:
    """Remove what was best before."""
    for path in folder.glob("best-*.safetensors*"):
        if path != _path(folder, step):
            path.unlink()


def has_best(folder: Path, *, step: int) -> bool:
    """Whether these weights are there, whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(_path(folder, step), framework="pt"):
            return True
    except (SafetensorError, OSError):
        return False


def load_best(folder: Path, parameters: Mapping[str, torch.Tensor], *, step: int) -> None:
    """Put the weights back, in place."""
    import torch
    from safetensors import safe_open

    file: Any
    with safe_open(_path(folder, step), framework="pt") as file, torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(file.get_tensor(name))
