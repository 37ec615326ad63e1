"""Disks that count their calls, and do something at one of them."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kpod.runner.disk import Disk

METHODS = ("make_folder", "write_text", "sync", "sync_folders", "rename", "replace_text", "link")

Act = Callable[[str, tuple[Any, ...]], None]


@dataclass(slots=True)
class Calls:
    """The calls of a disk's methods so far; `act` is called before the one with number `at`, counted from 0."""

    at: int = -1
    act: Act | None = None
    is_forever: bool = False
    made: list[str] = field(default_factory=list)

    def count(self, method: str, arguments: tuple[Any, ...]) -> None:
        """One more call."""
        number = len(self.made)
        self.made.append(method)
        is_due = number == self.at or (self.is_forever and number > self.at >= 0)
        if self.act is not None and is_due:
            self.act(method, arguments)


def watch(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    """Have every Disk count its calls."""
    for method in METHODS:
        original = getattr(Disk, method)

        def counted(
            self: Disk, *arguments: Any, _original: Any = original, _method: str = method
        ) -> Any:
            calls.count(_method, arguments)
            return _original(self, *arguments)

        monkeypatch.setattr(Disk, method, counted)


def die(_method: str, _arguments: tuple[Any, ...]) -> None:
    """SIGKILL this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def die_half_way(method: str, arguments: tuple[Any, ...]) -> None:
    """SIGKILL this process when half of the text is written."""
    path, text = Path(arguments[0]), str(arguments[1])
    if method == "replace_text":
        path = path.with_name(f".{path.name}.half")
    path.write_text(text[: len(text) // 2], encoding="utf-8")
    die(method, arguments)


def be_full(_method: str, arguments: tuple[Any, ...]) -> None:
    """Have no space left."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[0]))


def in_a_child(work: Callable[[], Any]) -> int:
    """Do the work in a forked process; the signal that ended it, or 0."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
