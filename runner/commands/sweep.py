"""`kpod sweep RECIPE --matrix a.b=1,2 seed=0..4`: one recipe under several settings and seeds; what they share is made once.

It ends in a table and in the comparisons that the seeds allow, also as sweep.json in a folder beside the runs.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kpod.runner.archive import Archive
from kpod.runner.assembly import find_recipe
from kpod.runner.commands._cells import CheckedCell, check_cells, check_recipes, shared_first
from kpod.runner.commands._options import add_recipe, add_spending, run_options
from kpod.runner.commands._seed_runs import CellEnd, run_here, run_in_processes
from kpod.runner.commands._sweep_end import conclude
from kpod.runner.console import complain, say
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.matrix import ALLOWED, Cell, Matrix, parse_matrix
from kpod.runner.recipe import Recipe
from kpod.runner.session import RunOptions
from kpod.runner.sweeping import Row
from kpod.runner.tuning import METRICS, wanted_of


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    add_spending(parser)
    words = parser.add_argument(
        "words",
        metavar="K=VALUES",
        nargs="+",
        help=f"what is swept: {ALLOWED}",
    )
    words.required = False  # they may all stand behind --matrix
    parser.add_argument(
        "--matrix",
        nargs="+",
        action="extend",
        default=[],
        metavar="K=VALUES",
        help="the same; every combination of all values is a run",
    )
    parser.add_argument(
        "--best",
        metavar="METRIC[:ARM]",
        help=f"name the best combination by validation data: {', '.join(METRICS)}; test scores are told of that one only",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at a time, each in a process of its own (default: 1)",
    )
    parser.add_argument("--json", action="store_true", help="print what sweep.json holds, and nothing else")  # fmt: skip


def run(arguments: Namespace) -> int:
    """Do it: a run that fails does not stop the others; the same command continues what is missing."""
    options = run_options(arguments)
    matrix = parse_matrix([*(arguments.words or ()), *arguments.matrix], settings=options.settings)
    _check_options(arguments, matrix)
    combinations = matrix.combinations()
    recipes = check_recipes(find_recipe(arguments.recipe), options, combinations)
    recipe = recipes[combinations[0].label]
    wanted = None if arguments.best is None else wanted_of(arguments.best, recipe)
    cells = matrix.cells(own_seed=recipe.seed)
    tally = _Tally(num_cells=len(cells), is_matrix=bool(matrix.axes), is_quiet=arguments.json)
    waiting = list(_found(check_cells(options, cells, recipes), tally))
    for end in _ends(arguments, options, waiting, recipe):
        tally.take(end)
    is_chosen = True
    if tally.done:
        is_chosen = conclude(
            recipe, matrix, tally.rows(matrix, cells),
            runs=options.runs, settings=options.settings, wanted=wanted, is_json=arguments.json,
        )  # fmt: skip
    if tally.failed:
        complain(tally.failures())
    return ExitCode.STAGE_FAILED if tally.failed or not is_chosen else ExitCode.DONE


def _check_options(arguments: Namespace, matrix: Matrix) -> None:
    """Refuse what does not go together."""
    if arguments.jobs < 1:
        raise KpodError(f"--jobs: got {arguments.jobs}\nallowed: 1 or more")
    if arguments.jobs > 1 and arguments.budget is not None:
        raise KpodError(
            f"--jobs {arguments.jobs} with --budget: runs in processes of their own cannot share one budget\n"
            "leave one of the two out; texts that one run has paid for are there for all others either way"
        )
    if arguments.best is not None and not matrix.axes:
        raise KpodError(
            f"--best {arguments.best}: only seeds are swept, and the best seed is no finding\n"
            "sweep a setting too: stages.ID.with.SETTING=a,b"
        )


def _found(checked: Sequence[CheckedCell], tally: _Tally) -> Iterator[CheckedCell]:
    """The cells that are still to be run; the complete ones are counted."""
    for each in checked:
        if each.archive is None:
            yield each
        else:
            tally.take_found(each.cell, each.archive)


def _ends(
    arguments: Namespace, options: RunOptions, waiting: Sequence[CheckedCell], recipe: Recipe
) -> Iterator[CellEnd]:
    """Run what is left, as it ends."""
    cells = [each.cell for each in waiting]
    if arguments.jobs == 1 or not cells:
        yield from run_here(arguments.recipe, options, cells, is_quiet=arguments.json)
        return
    yield from run_in_processes(
        arguments.recipe,
        options,
        cells,
        jobs=arguments.jobs,
        shared=shared_first(waiting),
        recipe=None if arguments.json else recipe,
    )


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What became of the cells so far.

    Args:
        is_matrix: whether more is swept than seeds.
        is_quiet: whether nothing but failures is said.
    """

    num_cells: int
    is_matrix: bool
    is_quiet: bool
    done: dict[Cell, Archive] = field(default_factory=dict)
    failed: dict[Cell, str] = field(default_factory=dict)

    @property
    def noun(self) -> str:
        """What is counted."""
        return "runs" if self.is_matrix else "seeds"

    def take(self, end: CellEnd) -> None:
        """Count a cell that was run, and say how far the sweep is."""
        if end.archive is None:
            self.failed[end.cell] = end.error
            complain(f"{end.cell.name}: {end.error}")
        else:
            self.done[end.cell] = end.archive
        verb = "failed after" if end.archive is None else "done in"
        self._say(f"{end.cell.name} {verb} {end.seconds:.1f} s")

    def take_found(self, cell: Cell, archive: Archive) -> None:
        """Count a cell that an earlier command has run."""
        self.done[cell] = archive
        self._say(f"{cell.name} was done before: {archive.name}")

    def _say(self, what: str) -> None:
        if not self.is_quiet:
            also = f", {len(self.failed)} failed" if self.failed else ""
            say(f"{what}; {len(self.done)} of {self.num_cells} {self.noun} done{also}\n")

    def failures(self) -> str:
        """Which cells failed."""
        names = [cell.name if self.is_matrix else str(cell.seed) for cell in self.failed]
        told = ("; " if self.is_matrix else ", ").join(names)
        return f"{len(names)} of {self.num_cells} {self.noun} failed: {told}"

    def rows(self, matrix: Matrix, cells: Sequence[Cell]) -> list[Row]:
        """The cells by combination, seeds in order."""
        by_label = {
            combination.label: [cell for cell in cells if cell.combination == combination]
            for combination in matrix.combinations()
        }
        return [
            Row(
                combination=row[0].combination,
                runs={cell.seed: self.done[cell] for cell in row if cell in self.done},
                failed={cell.seed: self.failed[cell] for cell in row if cell in self.failed},
            )
            for row in by_label.values()
        ]
