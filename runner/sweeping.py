"""What the cells of a sweep say: one row a combination of settings, each arm's mean over seeds, the primary comparison paired by seed.

A row's claim is about the method under these settings; all rows are one family, corrected for each other by Holm's rule.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Literal

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.console import table
from kpod.runner.matrix import Combination
from kpod.runner.seeds import Method, Series, compare_all, series_of
from kpod.runner.significance import LEVEL, corrected
from kpod.runner.t_distribution import reach

Data = Literal["test", "validation"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """A combination and its runs.

    Args:
        runs, failed: by seed: complete runs, and why others failed.
    """

    combination: Combination
    runs: Mapping[int, Archive] = field(default_factory=dict)
    failed: Mapping[int, str] = field(default_factory=dict)

    @cached_property
    def series(self) -> dict[str, Series]:
        """Every evaluated arm, by name, over the seeds that ran."""
        return series_of(self.runs)

    def on(self, data: Data) -> dict[str, Series]:
        """The arms as evaluated on validation questions, or on all others."""
        validated = {
            unit.stage
            for archive in self.runs.values()
            for unit in archive.scored().values()
            if is_on_validation(unit)
        }
        return {
            name: series
            for name, series in self.series.items()
            if (series.evaluation in validated) == (data == "validation")
        }


def is_on_validation(unit: ArchivedUnit) -> bool:
    """Whether an evaluation asked validation questions, as its wires tell."""
    wires = unit.wires.get("questions", [])
    return bool(wires) and all(wire.endswith(".validation") for wire in wires)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A mean over seeds.

    Args:
        n: seeds, >= 1.
        sd: standard deviation (n - 1); None where n is 1.
        low, high: 95 % t interval of the mean; None where n is 1.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.sd is None or self.low is None or self.high is None:
            return f"{self.mean:.3f} n = {self.n}"
        return f"{self.mean:.3f} (sd {self.sd:.3f}) [{self.low:.3f}, {self.high:.3f}] n = {self.n}"


def figure_of(series: Series | None) -> Figure | None:
    """The mean of an arm with its spread and t interval; None where no seed has a value.

    Source: Student 1908, Biometrika 6.
    """
    if series is None or not series.accuracies:
        return None
    values = list(series.accuracies.values())
    if len(values) == 1:
        return Figure(n=1, mean=values[0], sd=None, low=None, high=None)
    mean, sd = fmean(values), stdev(values)
    half = reach(LEVEL, len(values) - 1) * sd / sqrt(len(values))
    return Figure(n=len(values), mean=mean, sd=sd, low=mean - half, high=mean + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A combination in the table.

    Args:
        settings: `a.b=value`.
        figures: by column; None where nothing was scored.
        methods: the primary comparison, one for each arm against the baseline; corrected over all rows.
        num_failed: runs of this row that are missing.
    """

    label: str
    settings: tuple[str, ...]
    figures: tuple[Figure | None, ...]
    methods: tuple[Method, ...]
    num_failed: int

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "label": self.label,
            "settings": list(self.settings),
            "figures": [None if figure is None else asdict(figure) for figure in self.figures],
            "methods": [method.to_json() for method in self.methods],
            "num_failed": self.num_failed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixTable:
    """The scores of a sweep.

    Args:
        measure: what is scored: accuracy, or loss (nats a target token).
        data: what questions were asked.
        columns: names of the arms.
        sizes: questions; several numbers where rows differ.
        family: comparisons that are corrected together.
    """

    measure: str
    data: Data
    columns: tuple[str, ...]
    sizes: tuple[int, ...]
    family: int
    rows: tuple[TableRow, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "measure": self.measure,
            "data": self.data,
            "columns": list(self.columns),
            "sizes": list(self.sizes),
            "family": self.family,
            "rows": [row.to_json() for row in self.rows],
        }

    def lines(self) -> Iterator[str]:
        """The table for people, and what it allows to say."""
        if not self.columns:
            yield f"{len(self.rows)} combinations are done; no arm was evaluated on {self.data} questions"
            return
        pairs = [f"{each.b} less {each.a}" for each in self.rows[0].methods]
        yield table(
            ("", *self.columns, *pairs),
            [
                (
                    row.label, *("" if each is None else str(each) for each in row.figures),
                    *(_difference(each) for each in row.methods),
                    *("" for _ in pairs[len(row.methods) :]),
                )
                for row in self.rows
            ],
        )  # fmt: skip
        asked = ", ".join(f"{size:,}" for size in self.sizes)
        yield (
            f"{self.measure} on {asked} {self.data} questions: mean (sd) over seeds [95 % t interval] n = seeds"
        )
        if any(row.methods for row in self.rows):
            yield ""
            how = f"Holm-corrected over {self.family}" if self.family > 1 else "not corrected"
            yield f"primary comparison, paired by seed (p values {how})"
            for row in self.rows:
                yield from (f"  {row.label}: {method.sentence}" for method in row.methods)


def _difference(method: Method) -> str:
    """In points, with its t interval and the corrected p; the sentence says what follows."""
    result = method.result
    if result is None:
        return ""
    mean = f"{result.mean * 100:+.2f}"
    if result.low is None or result.high is None:
        return f"{mean} n = {result.n}"
    p = "" if result.p_holm is None else f" p = {result.p_holm:.3f}"
    return f"{mean} [{result.low * 100:+.2f}, {result.high * 100:+.2f}]{p} n = {result.n}"


def table_of(rows: Sequence[Row], primary: Sequence[str]) -> MatrixTable:
    """The scores that are no choice's business: on all questions but validation ones.

    Args:
        rows: at least one.
        primary: ids of the arms that the recipe is about, the baseline first; where there are none, all arms are columns and
            nothing is compared.
    """
    found = [row.on("test") for row in rows]
    compared = family_of(
        [compare_all(each, primary).primary if primary and each else [] for each in found]
    )
    return make_table(
        rows, found, measure="accuracy", data="test", primary=primary, compared=compared
    )


def make_table(
    rows: Sequence[Row],
    found: Sequence[Mapping[str, Series]],
    *,
    measure: str,
    data: Data,
    primary: Sequence[str],
    compared: Sequence[Sequence[Method]] | None = None,
) -> MatrixTable:
    """A table of one measure.

    Args:
        rows: the combinations.
        found: for each of them its arms, by name.
        measure: what was scored.
        data: on which questions.
        primary: arms that become columns where there are any; else all are.
        compared: comparisons of each row; None: nothing is compared.
    """
    known = {name: series.arm for each in found for name, series in each.items()}
    columns = [name for name, arm in known.items() if arm in primary] or list(known)
    compared = compared or [[] for _ in rows]
    return MatrixTable(
        measure=measure,
        data=data,
        columns=tuple(columns),
        sizes=tuple(sorted({size for each in found for name in columns if name in each for size in each[name].sizes.values()})),
        family=sum(method.result is not None for methods in compared for method in methods),
        rows=tuple(
            TableRow(
                label=row.combination.label,
                settings=row.combination.settings,
                figures=tuple(figure_of(each.get(name)) for name in columns),
                methods=tuple(methods),
                num_failed=len(row.failed),
            )
            for row, each, methods in zip(rows, found, compared, strict=True)
        ),
    )  # fmt: skip


def family_of(groups: Sequence[Sequence[Method]]) -> list[list[Method]]:
    """The comparisons of all groups, corrected for each other."""
    held = [each.result for methods in groups for each in methods if each.result is not None]
    results = iter(corrected(held))
    return [
        [each if each.result is None else replace(each, result=next(results)) for each in methods]
        for methods in groups
    ]
