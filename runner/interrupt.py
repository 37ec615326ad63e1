"""Being asked to stop: once, to stop cleanly at the next safe point; twice, at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether the process was asked to stop (Ctrl-C, SIGTERM or SIGUSR1)."""

    def __init__(self) -> None:
        self.is_set = False

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.is_set and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.is_set = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals while the block runs; outside the main thread, none."""
        numbers = [
            signal.SIGINT,
            signal.SIGTERM,
            *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else []),
        ]
        try:
            before = {number: signal.signal(number, self._handle) for number in numbers}
        except ValueError:  # not the main thread: whoever called us handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
