"""What a person sees of a run: on a terminal one live line, in a pipe plain lines, with --json the events themselves."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from kpod.runner.recipe import Recipe

# The live line is redrawn at most this often, in seconds.
_REDRAW_S = 0.1


def say(text: str = "") -> None:
    """Print a line for the person."""
    print(text, flush=True)


def complain(text: str) -> None:
    """Print a line about something that is wrong."""
    print(text, file=sys.stderr, flush=True)


def json_listener(row: dict[str, Any]) -> None:
    """Print an event as it is."""
    print(json.dumps(row, ensure_ascii=False, sort_keys=True), flush=True)


class RunConsole:
    """Turns events into lines. One for each run."""

    def __init__(self, recipe: Recipe, *, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_live = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        names = [*recipe.views, *recipe.stages]
        for stage in recipe.stages.values():
            each = [wires for name, wires in stage.wires.items() if stage.stage.inputs()[name].each]
            names += [f"{stage.id}[{wire.stage}]" for wires in each for wire in wires]
        self._id_width = max(map(len, names), default=8)
        self._uses_width = max(
            (len(item.uses) for item in (*recipe.stages.values(), *recipe.views.values())),
            default=8,
        )
        self._started_s = time.monotonic()
        self._drawn_s = 0.0
        self._running = ""

    def __call__(self, row: dict[str, Any]) -> None:
        """Show one event."""
        show: Callable[[dict[str, Any]], None] | None = getattr(self, f"_on_{row['event']}", None)
        if show is not None:
            show(row)

    def _line(self, text: str) -> None:
        self._clear()
        self._stream.write(text.rstrip() + "\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._is_live and self._running:
            self._stream.write("\r\x1b[K")
            self._running = ""

    def _draw(self, text: str) -> None:
        width = _terminal_width()
        self._running = text[: width - 1]
        self._stream.write("\r\x1b[K" + self._running)
        self._stream.flush()

    def _row(
        self, row: dict[str, Any], status: str, text: str, seconds: float | None = None
    ) -> str:
        left = f"  {row['id']:<{self._id_width}}  {row['uses']:<{self._uses_width}}  {status:<6}  {text}"
        return (
            left
            if seconds is None
            else f"{left:<{self._id_width + self._uses_width + 62}}  {seconds:>7.1f} s"
        )

    def _on_run_started(self, row: dict[str, Any]) -> None:
        self._line(f"{row['name']}  seed {row['seed']}  {row['stages']} stages  {row['run']}")

    def _on_stage_started(self, row: dict[str, Any]) -> None:
        self._started_s = time.monotonic()
        if self._is_live:
            self._draw(self._row(row, "…", row["reason"]))

    def _on_stage_waiting(self, row: dict[str, Any]) -> None:
        self._line(f"  {row['id']:<{self._id_width}}  another run is making this; waiting for it")

    def _on_progress(self, row: dict[str, Any]) -> None:
        now_s = time.monotonic()
        if not self._is_live or now_s - self._drawn_s < _REDRAW_S or not row["total"]:
            return
        self._drawn_s = now_s
        elapsed_s = now_s - self._started_s
        left_s = elapsed_s * (row["total"] - row["done"]) / max(row["done"], 1e-9)
        facts = "  ".join(
            f"{name} {value:.4g}"
            for name, value in row.items()
            if isinstance(value, float) and name not in {"done", "total"}
        )
        self._draw(
            f"  {row['id']:<{self._id_width}}  {row['done']:g}/{row['total']:g} {row['unit']}  {facts}  {left_s:.0f} s left"
        )

    def _on_stage_finished(self, row: dict[str, Any]) -> None:
        if row["status"] != "run":
            self._line(self._row(row, row["status"], row["summary"]))
            return
        reason = "" if row["reason"] in {"no earlier result", ""} else f"  ({row['reason']})"
        self._line(self._row(row, "run", row["summary"] + reason, row["seconds"]))

    def _on_entry_corrupt(self, row: dict[str, Any]) -> None:
        self._line(
            f"  {row['id']:<{self._id_width}}  stored result set aside: {row['reason']}; making it again"
        )

    def _on_view_rendered(self, row: dict[str, Any]) -> None:
        self._line(self._row(row, "view", row["summary"], row["seconds"]))

    def _on_run_finished(self, row: dict[str, Any]) -> None:
        self._line(
            f"done in {row['seconds']:.1f} s; {row['hits']} of {row['units']} from the store"
        )

    def _on_run_interrupted(self, row: dict[str, Any]) -> None:
        self._line(f"{row['reason']}; the same command continues it")

    def _on_run_failed(self, _row: dict[str, Any]) -> None:  # the message itself goes to stderr
        self._clear()


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns for a terminal or a pipe: padded with spaces, numbers as they are given."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]
    return "\n".join(lines)
