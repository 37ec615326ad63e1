"""How a sweep ends: its table, its comparisons, what was chosen, and the folder that keeps all of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kpod.runner.archive import Archive
from kpod.runner.canonical import pretty_json
from kpod.runner.console import complain, say, table
from kpod.runner.errors import KpodError
from kpod.runner.events import utc_now
from kpod.runner.matrix import Cell, Matrix
from kpod.runner.recipe import Recipe
from kpod.runner.seeds import Comparisons, Series, compare_all, series_of
from kpod.runner.sweeping import Row, table_of
from kpod.runner.tuning import Wanted, choose

FORMAT = 1


@runtime_checkable
class RendersSweep(Protocol):
    """A view that also makes a page of a whole sweep."""

    def render_sweep(self, archives: Sequence[Archive], folder: Path, config: Any) -> None:
        """Write the page's files into the folder.

        Args:
            archives: one a seed, in order of the seeds; where the folder's sweep.json has a `matrix`, those of all its rows.
            folder: of the sweep, or of one combination in it.
            config: the view's settings.
        """


def conclude(
    recipe: Recipe,
    matrix: Matrix,
    rows: Sequence[Row],
    *,
    runs: Path,
    settings: Sequence[str],
    wanted: Wanted | None,
    is_json: bool,
) -> bool:
    """Tell what the sweep found, and keep it.

    Args:
        recipe: of the first combination.
        matrix: what was swept.
        rows: every combination, at least one with a run.
        runs: the folder of archives.
        settings: what the command line changed for all runs; the same command needs them again.
        wanted: what the best is to be chosen by; None: nothing is chosen.
        is_json: whether the facts are told in place of the table.

    Returns:
        Whether what was to be chosen could be.
    """
    facts, lines, is_chosen = (
        _matrix_end(recipe, matrix, rows, wanted)
        if matrix.axes
        else (*_seeds_end(recipe, rows[0]), True)
    )
    facts["settings"] = list(settings)
    folder = _new_folder(runs, recipe.name)
    (folder / "sweep.json").write_text(pretty_json(facts), encoding="utf-8", newline="\n")
    if not is_json:
        for line in lines:
            say(line)
    _render(recipe, rows, folder, has_parts=bool(matrix.axes) and wanted is None)
    pages = sorted(folder.glob("*.html"))
    say(pretty_json(facts).rstrip() if is_json else f"\n{pages[0] if pages else folder}")
    return is_chosen


def _seeds_end(recipe: Recipe, row: Row) -> tuple[dict[str, Any], list[str]]:
    """The facts and the lines of a sweep over seeds alone."""
    done = dict(sorted(row.runs.items()))
    found = series_of(done)
    compared = compare_all(found, recipe.primary)
    facts = {
        **_head(recipe),
        "runs": {str(seed): archive.name for seed, archive in done.items()},
        "failed": {str(seed): error for seed, error in row.failed.items()},
        "arms": [series.to_json() for series in found.values()],
        "comparisons": {
            "primary": [method.to_json() for method in compared.primary],
            "others": [method.to_json() for method in compared.others],
        },
    }
    return facts, [seed_table(done, found), *comparison_lines(compared)]


def _matrix_end(
    recipe: Recipe, matrix: Matrix, rows: Sequence[Row], wanted: Wanted | None
) -> tuple[dict[str, Any], list[str], bool]:
    """The facts and the lines of a sweep over settings, and whether what was wanted could be chosen."""
    best = None
    if wanted is not None:
        try:
            best = choose(rows, wanted, recipe.primary)
        except KpodError as error:
            complain(str(error))
    found = table_of(rows, recipe.primary) if wanted is None else best.table if best else None
    shown = [] if found is None else [{**told, **_runs_of(row, number, is_linked=wanted is None)} for number, (told, row) in enumerate(zip(found.to_json()["rows"], rows, strict=True), 1)]  # fmt: skip
    named = {
        Cell(combination=row.combination, seed=seed).name: (seed, row)
        for row in rows
        for seed in [*row.runs, *row.failed]
    }
    facts = {
        **_head(recipe),
        "runs": {name: row.runs[seed].name for name, (seed, row) in named.items() if seed in row.runs},
        "failed": {name: row.failed[seed] for name, (seed, row) in named.items() if seed in row.failed},
        "axes": [{"name": axis.name, "values": list(axis.values)} for axis in matrix.axes],
        "seeds": list(matrix.seeds),
        "matrix": None if found is None else {**found.to_json(), "rows": shown},
        "best": None if best is None else best.to_json(),
    }  # fmt: skip
    lines = [] if found is None else list(found.lines())
    if best is not None:
        lines += ["", *best.lines()]
    return facts, lines, wanted is None or best is not None


def _head(recipe: Recipe) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": recipe.name,
        "recipe": str(recipe.path.absolute()),
        "finished_at": utc_now(),
        "primary": list(recipe.primary),
    }


def _runs_of(row: Row, number: int, *, is_linked: bool) -> dict[str, Any]:
    """A row's runs by seed, and the folder of its own page below that of the sweep; None where it has none."""
    has_page = is_linked and bool(row.runs)
    return {
        "runs": {str(seed): archive.name for seed, archive in row.runs.items()},
        "folder": f"{number:03d}" if has_page else None,
    }


def _render(recipe: Recipe, rows: Sequence[Row], folder: Path, *, has_parts: bool) -> None:
    """The pages of the views that make one: of the whole and, where asked for, of every combination."""
    for view in recipe.views.values():
        page = view.view()
        if not isinstance(page, RendersSweep):
            continue
        for number, row in enumerate(rows, 1):
            if has_parts and row.runs:
                (folder / f"{number:03d}").mkdir(exist_ok=True)
                page.render_sweep(list(row.runs.values()), folder / f"{number:03d}", view.config)
        archives = [archive for row in rows for _, archive in sorted(row.runs.items())]
        page.render_sweep(archives, folder, view.config)


def _new_folder(runs: Path, name: str) -> Path:
    """A folder for the sweep; without a resolved.yaml it is no run, and no command takes it for one."""
    stamp = utc_now().replace("-", "").replace(":", "")
    number = 0
    while True:
        folder = runs / f"{stamp}-{name}-sweep{f'-{number}' if number else ''}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def seed_table(done: Mapping[int, Archive], found: Mapping[str, Series]) -> str:
    """Accuracy by seed and arm, then mean and standard deviation over seeds."""
    if not found:
        return f"{len(done)} seeds are done; no arm was evaluated"
    rows = [
        (str(seed), *(_cell(series.accuracies.get(seed)) for series in found.values()))
        for seed in done
    ]
    columns = [list(series.accuracies.values()) for series in found.values()]
    rows.append(
        ("mean", *(_cell(statistics.mean(values) if values else None) for values in columns))
    )
    rows.append(
        ("sd", *(_cell(statistics.stdev(values) if len(values) > 1 else None) for values in columns))
    )  # fmt: skip
    sizes = sorted({size for series in found.values() for size in series.sizes.values()})
    return (
        table(("seed", *found), rows)
        + f"\naccuracy, n = {', '.join(map(str, sizes))} questions, {len(done)} seed{'s' if len(done) > 1 else ''}"
    )


def comparison_lines(compared: Comparisons) -> list[str]:
    """The comparisons for people: first that which the recipe is about, then all others."""
    lines: list[str] = []
    groups = (
        ("primary comparison, paired by seed", compared.primary),
        ("other comparisons, paired by seed", compared.others),
    )
    for title, methods in groups:
        if methods:
            held = sum(method.result is not None for method in methods)
            how = f"p values Holm-corrected for {held}" if held > 1 else "not corrected"
            lines += ["", f"{title} ({how})"]
            lines += [
                line
                for method in methods
                for line in (f"  {method.a} -> {method.b}", f"    {method.sentence}")
            ]
    return lines


def _cell(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.3f}"
