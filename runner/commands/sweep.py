"""`kpod sweep RECIPE seed=0..4`: one recipe for several seeds; what no seed touches is made once.

It ends in a table of all seeds and in the comparisons that they allow, also as sweep.json in a folder beside the runs.
"""

from __future__ import annotations

import re
import statistics
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kpod.runner.archive import Archive
from kpod.runner.assembly import find_recipe
from kpod.runner.canonical import pretty_json
from kpod.runner.commands._options import add_recipe, add_spending, run_options
from kpod.runner.commands._seed_runs import SeedEnd, run_here, run_in_processes
from kpod.runner.console import complain, say, table
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.events import utc_now
from kpod.runner.recipe import Recipe, load_recipe
from kpod.runner.seeds import Comparisons, Series, compare_all, series_of

FORMAT = 1


@runtime_checkable
class RendersSweep(Protocol):
    """A view that also makes a page of a whole sweep."""

    def render_sweep(self, archives: Sequence[Archive], folder: Path, config: Any) -> None:
        """Write the page's files into the folder; the archives are one a seed, in order of the seeds."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    add_spending(parser)
    parser.add_argument("seeds", metavar="seed=0..4", help="a range, or a list: seed=0,3,7")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="seeds at a time, each in a process of its own (default: 1)",
    )


def run(arguments: Namespace) -> int:
    """Do it: a seed that fails does not stop the others; the same command continues what is missing."""
    seeds = parse_seeds(arguments.seeds)
    if arguments.jobs < 1:
        raise KpodError(f"--jobs: got {arguments.jobs}\nallowed: 1 or more")
    options = run_options(arguments)
    if arguments.jobs > 1 and options.budget_usd is not None:
        raise KpodError(
            f"--jobs {arguments.jobs} with --budget: seeds in processes of their own cannot share one budget\n"
            "leave one of the two out; texts that one seed has paid for are there for all others either way"
        )
    recipe = load_recipe(
        find_recipe(arguments.recipe), settings=[*options.settings, f"seed={seeds[0]}"]
    )
    ends = (
        run_here(arguments.recipe, options, seeds)
        if arguments.jobs == 1
        else run_in_processes(arguments.recipe, options, seeds, jobs=arguments.jobs)
    )
    done: dict[int, Archive] = {}
    failed: dict[int, str] = {}
    for end in ends:
        _take(end, done, failed, num_seeds=len(seeds))
    if done:
        _conclude(recipe, dict(sorted(done.items())), failed, arguments.runs)
    if failed:
        complain(f"{len(failed)} of {len(seeds)} seeds failed: {', '.join(map(str, failed))}")
        return ExitCode.STAGE_FAILED
    return ExitCode.DONE


def _take(
    end: SeedEnd, done: dict[int, Archive], failed: dict[int, str], *, num_seeds: int
) -> None:
    """Count a seed, and say how far the sweep is."""
    if end.archive is None:
        failed[end.seed] = end.error
        complain(f"seed {end.seed}: {end.error}")
    else:
        done[end.seed] = end.archive
    also = f", {len(failed)} failed" if failed else ""
    verb = "failed after" if end.archive is None else "done in"
    say(
        f"seed {end.seed} {verb} {end.seconds:.1f} s; {len(done)} of {num_seeds} seeds done{also}\n"
    )


def _conclude(
    recipe: Recipe, done: Mapping[int, Archive], failed: Mapping[int, str], runs: Path
) -> None:
    """The table, the comparisons, and the folder that keeps both."""
    found = series_of(done)
    compared = compare_all(found, recipe.primary)
    say(seed_table(done, found))
    for line in comparison_lines(compared):
        say(line)
    folder = _new_folder(runs, recipe.name)
    facts = {
        "format": FORMAT,
        "name": recipe.name,
        "recipe": str(recipe.path.absolute()),
        "finished_at": utc_now(),
        "runs": {str(seed): archive.name for seed, archive in done.items()},
        "failed": {str(seed): error for seed, error in failed.items()},
        "primary": list(recipe.primary),
        "arms": [series.to_json() for series in found.values()],
        "comparisons": {
            "primary": [method.to_json() for method in compared.primary],
            "others": [method.to_json() for method in compared.others],
        },
    }
    (folder / "sweep.json").write_text(pretty_json(facts), encoding="utf-8", newline="\n")
    for view in recipe.views.values():
        page = view.view()
        if isinstance(page, RendersSweep):
            page.render_sweep(list(done.values()), folder, view.config)
    say(f"\n{folder}")


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


def parse_seeds(text: str) -> list[int]:
    """`seed=0..4` or `seed=0,3,7`.

    Raises:
        KpodError: it is neither.
    """
    spread = re.fullmatch(r"seed=(\d+)\.\.(\d+)", text)
    if spread and int(spread[1]) <= int(spread[2]):
        return list(range(int(spread[1]), int(spread[2]) + 1))
    if re.fullmatch(r"seed=\d+(,\d+)*", text):
        return list(dict.fromkeys(int(part) for part in text.removeprefix("seed=").split(",")))
    raise KpodError(f"got '{text}'\nallowed: seed=0..4 or seed=0,3,7")


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
        + f"\naccuracy, n = {', '.join(map(str, sizes))} questions, {len(done)} seeds"
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
