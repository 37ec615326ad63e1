"""What a person sees of a run: on a terminal one live line, in a pipe plain lines, with --json the events themselves."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from kpod.runner.visible import visible_json, visible_text

if TYPE_CHECKING:
    from rich.progress import Progress

    from kpod.runner.recipe import Recipe


def say(text: str = "") -> None:
    """Print a line for the person."""
    print(visible_text(text), flush=True)


def complain(text: str) -> None:
    """Print a line about something that is wrong."""
    print(visible_text(text), file=sys.stderr, flush=True)


def json_listener(row: dict[str, Any]) -> None:
    """Print an event as it is, in JSON that no terminal obeys: JSON itself escapes C0 alone."""
    print(visible_json(json.dumps(row, ensure_ascii=False, sort_keys=True)), flush=True)


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
        uses = [stage.uses for stage in recipe.stages.values()]
        uses += [view.uses for view in recipe.views.values()]
        self._uses_width = max(map(len, uses), default=8)
        self._bar: Progress | None = None

    def __call__(self, row: dict[str, Any]) -> None:
        """Show one event."""
        show: Callable[[dict[str, Any]], None] | None = getattr(self, f"_on_{row['event']}", None)
        if show is not None:
            show(row)

    def _line(self, text: str) -> None:
        self._clear()
        self._stream.write(visible_text(text).rstrip() + "\n")
        self._stream.flush()

    def _clear(self) -> None:
        """Take the live line away, before a line that stays."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _live_line(self, text: str) -> Progress:
        """The live line of the running stage; rich is imported only where a stage runs on a terminal."""
        if self._bar is None:
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.TextColumn("  {task.description}", markup=False), progress.BarColumn(bar_width=24),
                progress.MofNCompleteColumn(), progress.TextColumn("{task.fields[facts]}", markup=False), progress.TimeRemainingColumn(),
                console=Console(file=self._stream), transient=True, refresh_per_second=5,
            )  # fmt: skip
            self._bar.add_task(visible_text(text), total=None, facts="")
            self._bar.start()
        return self._bar

    def _row(
        self, row: dict[str, Any], status: str, text: str, seconds: float | None = None
    ) -> str:
        one_line = text.replace("\n", "↵")
        left = f"  {row['id']:<{self._id_width}}  {row['uses']:<{self._uses_width}}  {status:<6}  {one_line}"
        return (
            left
            if seconds is None
            else f"{left:<{self._id_width + self._uses_width + 62}}  {seconds:>7.1f} s"
        )

    def _on_run_started(self, row: dict[str, Any]) -> None:
        self._line(f"{row['name']}  seed {row['seed']}  {row['stages']} stages  {row['run']}")

    def _on_stage_started(self, row: dict[str, Any]) -> None:
        if self._is_live:
            self._clear()
            self._live_line(f"{row['id']:<{self._id_width}}  {row['reason']}")

    def _on_stage_waiting(self, row: dict[str, Any]) -> None:
        self._line(f"  {row['id']:<{self._id_width}}  another run is making this; waiting for it")

    def _on_progress(self, row: dict[str, Any]) -> None:
        if not self._is_live or not row["total"]:
            return
        # The bar tells by itself what is done and how long it will take.
        facts = [
            fact_text(name, value)
            for name, value in row.items()
            if isinstance(value, float) and name not in {"done", "total", "seconds_left"}
        ]
        said = visible_text("  ".join([row["unit"], *facts]))
        bar = self._live_line(row["id"])
        bar.update(bar.task_ids[0], completed=row["done"], total=row["total"], facts=said)

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

    def _on_run_spent(self, row: dict[str, Any]) -> None:
        self._line(row["said"])

    def _on_run_interrupted(self, row: dict[str, Any]) -> None:
        self._line(f"{row['reason']}; the same command continues it")

    def _on_run_failed(self, _row: dict[str, Any]) -> None:  # the message itself goes to stderr
        self._clear()


def fact_text(name: str, value: float) -> str:
    """A number of a running stage in few characters, by the unit that its name ends with."""
    if name.endswith("_per_s"):
        return f"{value:,.0f} {name.removesuffix('_per_s')}/s"
    if name.endswith("_frac"):
        return f"{name.removesuffix('_frac')} {100 * value:.0f} %"
    if name.endswith("_gb"):
        return f"{name.removesuffix('_gb')} {value:.1f} GB"
    return f"{name} {value:.4g}"


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns for a terminal or a pipe: padded with spaces, numbers as they are given."""
    one_line_each = [tuple(cell.replace("\n", "↵") for cell in row) for row in (head, *rows)]
    widths = [max(len(row[column]) for row in one_line_each) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in one_line_each
    ]
    return "\n".join(lines)
