"""`kpod sweep RECIPE seed=0..4`: one recipe for several seeds; what no seed touches is made once."""

from __future__ import annotations

import re
import statistics
from argparse import ArgumentParser, Namespace
from dataclasses import replace

from kpod.runner.archive import Archive
from kpod.runner.assembly import find_recipe
from kpod.runner.commands._options import add_recipe, run_options
from kpod.runner.comparison import arms_of
from kpod.runner.console import RunConsole, complain, say, table
from kpod.runner.errors import ExitCode, Interrupted, KpodError, RecipeError
from kpod.runner.session import Session


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    add_recipe(parser)
    parser.add_argument("seeds", metavar="seed=0..4", help="a range, or a list: seed=0,3,7")


def run(arguments: Namespace) -> int:
    """Do it: a seed that fails does not stop the others; the same command continues what is missing."""
    seeds = parse_seeds(arguments.seeds)
    options = run_options(arguments)
    done: dict[int, Archive] = {}
    failed: list[int] = []
    for seed in seeds:
        try:
            session = Session(
                find_recipe(arguments.recipe),
                replace(options, settings=[*options.settings, f"seed={seed}"]),
            )
            done[seed] = session.run([RunConsole(session.recipe)])
        except (Interrupted, RecipeError):
            raise
        except KpodError as error:
            complain(f"seed {seed}: {error}")
            failed.append(seed)
    if done:
        say("\n" + seed_table(done))
    if failed:
        complain(f"{len(failed)} of {len(seeds)} seeds failed: {', '.join(map(str, failed))}")
        return ExitCode.STAGE_FAILED
    return ExitCode.DONE


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


def seed_table(done: dict[int, Archive]) -> str:
    """Accuracy by seed and arm, then mean and standard deviation over seeds."""
    arms = {seed: arms_of(archive, None) for seed, archive in done.items()}
    if not any(arms.values()):
        return f"{len(done)} seeds are done; no arm was evaluated"
    names = list(dict.fromkeys(name for by_name in arms.values() for name in by_name))
    rows = [
        (str(seed), *(_cell(by_name[name].accuracy) if name in by_name else "" for name in names))
        for seed, by_name in arms.items()
    ]
    columns = {
        name: [
            arm.accuracy
            for by_name in arms.values()
            if (arm := by_name.get(name)) is not None and arm.accuracy is not None
        ]
        for name in names
    }
    rows.append(
        ("mean", *(_cell(statistics.mean(values)) if values else "" for values in columns.values()))
    )
    rows.append(
        (
            "sd",
            *(
                _cell(statistics.stdev(values)) if len(values) > 1 else ""
                for values in columns.values()
            ),
        )
    )
    sizes = sorted({arm.n for by_name in arms.values() for arm in by_name.values()})
    return (
        table(("seed", *names), rows)
        + f"\naccuracy, n = {', '.join(map(str, sizes))} questions, {len(done)} seeds"
    )


def _cell(accuracy: float | None) -> str:
    return "" if accuracy is None else f"{accuracy:.3f}"
