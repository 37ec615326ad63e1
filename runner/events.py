"""What happens in a run, as it happens: one JSON line an event, appended to events.jsonl and handed to the console."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Listener = Callable[[dict[str, Any]], None]

# A progress event is written at most this often, in seconds; the console hears of every one.
PROGRESS_EVERY_S = 10.0


def utc_now() -> str:
    """The time now, UTC, ISO 8601 to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(slots=True)
class Events:
    """Writes events. The file is append-only; a line torn by a kill is ignored by readers."""

    path: Path | None
    listeners: list[Listener] = field(default_factory=list)
    _last_progress_s: float = 0.0

    def emit(self, event: str, **facts: Any) -> None:
        """Tell that something happened."""
        row = {"at": utc_now(), "event": event, **facts}
        for listener in self.listeners:
            listener(row)
        if event == "progress":
            now_s = time.monotonic()
            if now_s - self._last_progress_s < PROGRESS_EVERY_S:
                return
            self._last_progress_s = now_s
        if self.path is not None:
            with self.path.open("a", encoding="utf-8", newline="\n") as file:
                file.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events of a file; a torn last line is left out."""
    if not path.exists():
        return
    with path.open("rb") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                return
