"""Waits for what a process brings about, on a slow machine as on a fast one: by what is there, and not by a clock."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

# A process that brings nothing about in so many seconds hangs.
_MOST_S = 300.0


def wait_until(
    process: subprocess.Popen[str], is_there: Callable[[], bool], *, look_every_s: float = 0.005
) -> None:
    """Wait until something is there, for as long as the process that brings it about lives.

    Raises:
        AssertionError: the process ended before, with what it said; or nothing came in five minutes.
    """
    began = time.monotonic()
    while True:
        # Looked at first: what a process did before it ended counts.
        has_ended = process.poll() is not None
        if is_there():
            return
        assert not has_ended, process.communicate()
        assert time.monotonic() - began < _MOST_S, "nothing came"
        time.sleep(look_every_s)
