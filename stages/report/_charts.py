"""Where the marks of a chart stand; the template draws them as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import NamedTuple

from kpod.stages.report._training import Student

# The drawing area of a loss chart, in its own units.
WIDTH, HEIGHT = 280, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 18, 16, 24
# More marks than this run together.
_MOST_DOTS = 30


class Tick(NamedTuple):
    """A place on an axis and what is written there."""

    at: float
    label: str


class Dot(NamedTuple):
    """A mark of a curve, and what it says."""

    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LossChart:
    """A student's loss by epoch.

    Args:
        lines: runs of points without a gap, each as SVG wants it: "x,y x,y …".
        dots: the first and the last, and all between where they stand apart.
        ends: the first and the last, which are labelled.
    """

    student: str
    lines: tuple[str, ...]
    dots: tuple[Dot, ...]
    ends: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


def loss_charts(students: Sequence[Student]) -> tuple[LossChart, ...]:
    """One chart for each student with a loss, all on one scale, from 0."""
    known = [loss for student in students for loss in student.losses if loss is not None]
    if not known:
        return ()
    top = _nice_ceiling(max(known))
    return tuple(
        _chart(student, top)
        for student in students
        if any(loss is not None for loss in student.losses)
    )


def _chart(student: Student, top: float) -> LossChart:
    num_epochs = len(student.losses)
    dots = [
        Dot(round(_x(epoch, num_epochs), 1), round(_y(loss, top), 1), f"{loss:.3g}")
        for epoch, loss in enumerate(student.losses, start=1)
        if loss is not None
    ]
    ends = tuple(dict.fromkeys((dots[0], dots[-1])))
    shown_epochs = dict.fromkeys((1, *((num_epochs + 1) // 2,) * (num_epochs >= 5), num_epochs))
    return LossChart(
        student=student.name,
        lines=_lines(student.losses, top),
        dots=tuple(dots) if len(dots) <= _MOST_DOTS else ends,
        ends=ends,
        x_ticks=tuple(Tick(round(_x(epoch, num_epochs), 1), str(epoch)) for epoch in shown_epochs),
        y_ticks=tuple(
            Tick(round(_y(value, top), 1), f"{value:.3g}") for value in (0.0, top / 2, top)
        ),
    )


def _lines(losses: Sequence[float | None], top: float) -> tuple[str, ...]:
    lines: list[list[str]] = [[]]
    for epoch, loss in enumerate(losses, start=1):
        if loss is None:
            lines.append([])
        else:
            lines[-1].append(f"{_x(epoch, len(losses)):.1f},{_y(loss, top):.1f}")
    return tuple(" ".join(points) for points in lines if len(points) > 1)


def _x(epoch: int, num_epochs: int) -> float:
    width = WIDTH - _LEFT - _RIGHT
    return _LEFT + (width / 2 if num_epochs == 1 else width * (epoch - 1) / (num_epochs - 1))


def _y(loss: float, top: float) -> float:
    return _TOP + (HEIGHT - _TOP - _BOTTOM) * (1 - loss / top)


def _nice_ceiling(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 6, 8 and 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    return next((step for step in (1, 2, 3, 4, 5, 6, 8) if step * power >= value), 10) * power
