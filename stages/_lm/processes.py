"""The processes that a launcher started together: how they meet, what the first tells the others, and their process group.

Source of the environment's names: torchrun (`torch.distributed.run`), which accelerate's launcher calls too.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import torch

# Our choices: nobody waits longer for the others to begin, and no rank longer for another within a step (the first may
# validate or save meanwhile; one that died is noticed at once, its connections break).
_MEETING = timedelta(minutes=30)
_STEP = timedelta(hours=2)
_POLL_S = 0.2


class Ranks(NamedTuple):
    """Which of the processes this one is.

    Args:
        rank: from 0, over all machines.
        size: processes, over all machines.
        local_rank: from 0, on this machine; the number of its CUDA device.
    """

    rank: int
    size: int
    local_rank: int


def ranks() -> Ranks | None:
    """Which of the launched processes this is; None where it stands alone."""
    named = [os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR")]
    if None in named or int(os.environ["WORLD_SIZE"]) < 2:
        return None
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    return Ranks(rank, int(os.environ["WORLD_SIZE"]), local)


def join(device: torch.device) -> Ranks | None:
    """Make the process group of the launched processes, once; None where this one stands alone.

    Args:
        device: where training computes: on CUDA every process takes the device of its local rank.
    """
    import torch

    found = ranks()
    if found is None:
        return None
    dist = _torch_distributed()
    if device.type == "cuda":
        torch.cuda.set_device(found.local_rank)
    if not dist.is_initialized():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
            store=dist.PrefixStore("kpod/team", _store()), rank=found.rank, world_size=found.size, timeout=_STEP,
        )  # fmt: skip
    return found


def leave() -> None:
    """End the process group, where there is one."""
    dist = _torch_distributed()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def tell(text: str) -> None:
    """Let the other processes hear a text, each when it asks; waits for nobody."""
    number = _messages().add("told", 1)
    _messages().set(str(number), text)


def hear(number: int, *, within_s: float | None = None) -> str | None:
    """The text that was told as the number-th, from 1; None where the first process is gone, or said nothing in time."""
    until = None if within_s is None else time.monotonic() + within_s
    try:
        while not _messages().check([str(number)]):
            if until is not None and time.monotonic() > until:
                return None
            time.sleep(_POLL_S)
        text: bytes = _messages().get(str(number))
    except RuntimeError:  # torch's DistError: whoever kept the store has ended
        return None
    return text.decode()


def _messages() -> Any:
    return _torch_distributed().PrefixStore("kpod/messages", _store())


@cache
def _store() -> Any:
    """Where the processes meet: torchrun's own store, or one that the first process keeps."""
    dist = _torch_distributed()
    store, _, _ = next(iter(dist.rendezvous("env://", timeout=_MEETING)))
    return store


def _torch_distributed() -> Any:
    """The module, whose stubs leave out half of its names."""
    import torch.distributed

    return torch.distributed
