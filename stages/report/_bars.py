"""Where the bars of a chart stand; the template draws them as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kpod.stages.report._charts import nice_ceiling
from kpod.stages.report._curriculum import MOST_GIVEN, Plan
from kpod.stages.report._difficulty import Hardness, StepMean
from kpod.stages.report._formats import count, thinned
from kpod.stages.report._weights import NUM_BINS, Weighting

# The drawing area of a bar chart, in its own units.
WIDTH, HEIGHT = 280, 150
_SIDE, _TOP, _BOTTOM = 8, 16, 30
# Epochs drawn of a long plan: evenly spread, the first and the last among them.
_MOST_EPOCHS = 20


class Column(NamedTuple):
    """What a bar stands for.

    Args:
        value: its height.
        label, under: written below it, on two lines.
        title: what it says in full.
        over: written above it.
    """

    value: float
    label: str
    under: str
    title: str
    over: str


class Bar(NamedTuple):
    """A bar, its middle, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    middle: float
    column: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Bars from 0, side by side."""

    title: str
    sub: str
    bars: tuple[Bar, ...]

    @property
    def spoken(self) -> str:
        """The chart in words."""
        return "; ".join(bar.column.title for bar in self.bars)


class Segment(NamedTuple):
    """Part of a stacked bar.

    Args:
        given: 0 … MOST_GIVEN, which picks its look.
        title: what it says in full.
    """

    x: float
    y: float
    width: float
    height: float
    given: int
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StackChart:
    """One bar an epoch, each of the same height, divided by how much is given."""

    title: str
    sub: str
    segments: tuple[Segment, ...]
    labels: tuple[tuple[float, str], ...]
    legend: tuple[str, ...]


def weight_bars(weighting: Weighting) -> BarChart:
    """Weights by tenths of [0, 1]."""
    columns = [
        Column(
            value=size,
            label=f"{index / NUM_BINS:g}" if index % 2 == 0 else "",
            under="",
            title=f"{size:,} weights from {index / NUM_BINS:g} to {(index + 1) / NUM_BINS:g}",
            over="",
        )
        for index, size in enumerate(weighting.bins)
    ]
    return _bars("how weights are spread", "tokens by weight, in tenths from 0 to 1", columns)


def nats_bars(hardness: Hardness) -> BarChart:
    """Mean difficulty by place, and of the last step."""
    means = [*hardness.by_step, *((hardness.last,) if hardness.last else ())]
    return _bars("difficulty by step", "mean nats of the 1st, 2nd, … and of the last step", [_mean(each) for each in means])  # fmt: skip


def _mean(mean: StepMean) -> Column:
    spread = "" if mean.sd is None else f", sd {mean.sd:.3g}"
    return Column(
        value=mean.mean,
        label=mean.label.replace(" and on", "+"),
        under=f"n {_short(mean.n)}",
        title=f"step {mean.label}: mean {mean.mean:.3g} nats{spread}, n = {mean.n:,} steps",
        over=f"{mean.mean:.2g}",
    )


def size_bars(hardness: Hardness) -> BarChart:
    """How many rationales have so many steps."""
    columns = [
        Column(
            value=size,
            label=label.replace(" and on", "+"),
            under="",
            title=f"{size:,} rationales of {label} steps",
            over=_short(size),
        )
        for label, size in hardness.sizes
    ]
    return _bars("steps a rationale", "rationales by their number of steps", columns)


def given_stack(plan: Plan) -> StackChart:
    """Rationales by how many steps are given, epoch by epoch."""
    epochs = [epoch for epoch in plan.epochs if epoch.given]
    kept = thinned(epochs, _MOST_EPOCHS)
    width = (WIDTH - 2 * _SIDE) / max(1, len(kept))
    segments: list[Segment] = []
    for place, epoch in enumerate(kept):
        y = float(HEIGHT - _BOTTOM)
        for given, size in enumerate(epoch.given):
            height = (HEIGHT - _TOP - _BOTTOM) * size / max(1, plan.num_rationales)
            y -= height
            if size:
                segments.append(
                    Segment(
                        round(_SIDE + place * width, 1), round(y, 1), round(width * 0.86, 1),
                        round(height, 1), given, f"epoch {epoch.number}: {size:,} of {plan.num_rationales:,} rationales with {_steps(given)} given",
                    )
                )  # fmt: skip
    places = {0, len(kept) - 1} | ({(len(kept) - 1) // 2} if len(kept) >= 5 else set())
    return StackChart(
        title="steps given by epoch",
        sub="share of the rationales",
        segments=tuple(segments),
        labels=tuple(
            (round(_SIDE + place * width + width * 0.43, 1), str(kept[place].number))
            for place in sorted(places)
            if kept
        ),
        legend=tuple(_steps(given) for given in range(MOST_GIVEN + 1)),
    )


def _steps(given: int) -> str:
    if given == MOST_GIVEN:
        return f"{given} steps and more"
    return "no step" if given == 0 else f"{given} step{'s' if given > 1 else ''}"


def _bars(title: str, sub: str, columns: Sequence[Column]) -> BarChart:
    top = nice_ceiling(max((column.value for column in columns), default=0.0))
    width = (WIDTH - 2 * _SIDE) / max(1, len(columns))
    bars = []
    for place, column in enumerate(columns):
        height = (HEIGHT - _TOP - _BOTTOM) * max(0.0, column.value) / top
        x = _SIDE + place * width + width * 0.08
        bars.append(
            Bar(
                round(x, 1), round(HEIGHT - _BOTTOM - height, 1), round(width * 0.84, 1), round(height, 1),
                round(x + width * 0.42, 1), column,
            )
        )  # fmt: skip
    return BarChart(title=title, sub=sub, bars=tuple(bars))


def _short(number: float) -> str:
    """`950`, `12k`: what fits below a bar."""
    if number < 10_000:
        return count(number)
    return f"{number / 1000:.0f}k" if number < 1_000_000 else f"{number / 1e6:.1f}M"
