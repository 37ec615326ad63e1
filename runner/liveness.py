"""Whether the process that one works for still lives, and whether it asked to stop."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

from kpod.runner.interrupt import StopRequest

_LOOK_EVERY_S = 0.3
# What a process that nobody waits for any more ends with.
ABANDONED = 70


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process on a machine.

    Args:
        host: the machine's name.
        pid: its number.
        started: when it began, in the machine's own clock ticks; "" where that cannot be read.
    """

    host: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Process:
        """The one that asks."""
        return cls(host=socket.gethostname(), pid=os.getpid(), started=_started(os.getpid()) or "")

    def is_alive(self) -> bool:
        """Whether it still runs; of another machine's process nothing is known, so it counts as alive."""
        if self.host != socket.gethostname():
            return True
        if self.started:
            return _started(self.pid) == self.started
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _started(pid: int) -> str | None:
    """When a process began; None where it is none or only waits to be buried. Source: proc(5), fields 3 and 22 of stat."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]


def watch(parent: Process, stop_file: Path, stop: StopRequest) -> None:
    """Ask for a stop when the file appears; end this process at once when its parent, or who started it, is gone.

    What would write on into a checkpoint that a new run may already use must not outlive the old run by seconds.
    """
    starter = os.getppid()

    def look() -> None:
        waiting = threading.Event()
        while not waiting.wait(_LOOK_EVERY_S):
            if not parent.is_alive() or os.getppid() != starter:
                os._exit(ABANDONED)
            if stop_file.exists():
                stop.is_set = True

    threading.Thread(target=look, name="kpod-watch", daemon=True).start()
