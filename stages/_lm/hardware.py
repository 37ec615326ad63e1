"""Where a model computes: the device and the threads that a placement asks for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Protocol

from kpod.runner import StageError

if TYPE_CHECKING:
    import torch


class Hardware(Protocol):
    """What is read of a placement."""

    @property
    def device(self) -> str: ...
    @property
    def threads(self) -> int | None: ...


def pick_device(placement: Hardware) -> torch.device:
    """The device to compute on.

    Raises:
        StageError: the placement asks for CUDA, and torch finds none.
    """
    import torch

    wanted = placement.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise StageError(
            f"placement.device is {wanted}, but torch {torch.__version__} finds no CUDA device here\n"
            "set placement.default.device to cpu, or install a CUDA build of torch"
        )
    return torch.device(wanted)


def set_threads(placement: Hardware) -> None:
    """Let torch compute with as many threads as the placement says; None: as many as torch chose when the process began."""
    import torch

    own = _own_threads()
    if placement.threads is not None:
        torch.set_num_threads(placement.threads)
    elif torch.get_num_threads() != own:
        torch.set_num_threads(own)


@cache
def _own_threads() -> int:
    """How many threads torch chose by itself: read at the first call, before any stage has changed it."""
    import torch

    return torch.get_num_threads()
