"""Ranks without a launcher: forked processes that meet at a free port."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch

from kpod.stages._lm import processes
from tests.stages.tiny_models import Tiny, tiny_files


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def together(size: int, work: Callable[[int], Any], folder: Path) -> list[Any]:
    """What a function gives on every rank of a process group; the ranks are forks of this process.

    The tiny models are made before: ranks other than the first write none.
    """
    for architecture in get_args(Tiny):
        tiny_files(architecture)
    port = str(free_port())
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                torch.set_num_threads(1)
                os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
                (folder / f"{rank}.pickle").write_bytes(pickle.dumps(work(rank)))
                processes.leave()
                code = 0
            except BaseException:  # noqa: BLE001 - it is told, and ends the rank
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    _wait(children)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in range(size)]


def _wait(children: list[int]) -> None:
    """Until all have ended; the others end with the first that fails, since they would wait for it half an hour."""
    left, codes = set(children), {}
    while left:
        child, status = os.waitpid(-1, 0)
        if child not in left:
            continue
        left.discard(child)
        codes[children.index(child)] = os.waitstatus_to_exitcode(status)
        if codes[children.index(child)] and len(codes) < len(children):
            for other in left:
                os.kill(other, signal.SIGKILL)
    assert set(codes.values()) == {0}, f"exit status by rank, the first to fail first: {codes}"
