"""Options that several commands share."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from kpod.runner.visible import visible_text

if TYPE_CHECKING:
    from kpod.runner.session import RunOptions


class CommandParser(ArgumentParser):
    """Says what is wrong with a command line without what a terminal would obey: a shell's `*` names files that others named."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the process with a message."""
        super().exit(status, message and visible_text(message))


def add_folders(parser: ArgumentParser) -> None:
    """--runs and --store."""
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(os.environ.get("KPOD_RUNS", "runs")),
        metavar="DIR",
        help="folder of the archives (default: runs, or KPOD_RUNS)",
    )
    store = os.environ.get("KPOD_STORE")
    parser.add_argument("--store", type=Path, default=Path(store) if store else None, metavar="DIR", help="folder of the results (default: RUNS/.store, or KPOD_STORE)")  # fmt: skip


def add_recipe(parser: ArgumentParser) -> None:
    """RECIPE, --set and the folders."""
    parser.add_argument(
        "recipe",
        metavar="RECIPE",
        help="a YAML file, or the bare name of a recipe that ships with kpod",
    )
    parser.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="K=V",
        help="change a value: stages.standard.with.epochs=3",
    )
    parser.add_argument("--offline", action="store_true", help="never ask the model hub")
    parser.add_argument(
        "--refresh", action="store_true", help="ask the hub again which commit a name means"
    )
    add_folders(parser)


def add_choice_of_stages(parser: ArgumentParser) -> None:
    """--until, --from and --force."""
    parser.add_argument("--until", metavar="STAGE", help="only this stage and what it needs")
    parser.add_argument(
        "--from",
        dest="from_stage",
        metavar="STAGE",
        help="execute this stage and all that follows from it again",
    )
    parser.add_argument(
        "--force",
        action="append",
        default=[],
        metavar="STAGE",
        help="execute this stage again, even where its result is stored",
    )


def add_spending(parser: ArgumentParser) -> None:
    """--budget and --retry."""
    parser.add_argument(
        "--budget",
        type=_usd,
        metavar="USD",
        help="the most that this command may spend on endpoints; exit 4 where it is reached, the same command continues",
    )
    add_retry(parser)


def add_retry(parser: ArgumentParser) -> None:
    """--retry."""
    parser.add_argument(
        "--retry",
        choices=["refused"],
        help="ask again for texts that the model refused or left empty",
    )


def _usd(text: str) -> float:
    """An amount of money, above 0."""
    try:
        usd = float(text)
    except ValueError:
        usd = 0.0
    if not 0 < usd < float("inf"):
        raise ArgumentTypeError(f"got '{text}'; allowed: USD above 0, as 2.50")
    return usd


def run_options(arguments: Namespace) -> RunOptions:
    """The options that were given, as a value."""
    # Here, because it brings all that runs a recipe: commands that only read runs start sooner.
    from kpod.runner.session import RunOptions

    given = vars(arguments)
    return RunOptions(
        runs=arguments.runs, store=arguments.store, settings=given.get("settings", ()), until=given.get("until"),
        from_stage=given.get("from_stage"), force=given.get("force", ()), offline=given.get("offline", False),
        refresh=given.get("refresh", False), budget_usd=given.get("budget"), retry_refused=given.get("retry") == "refused",
    )  # fmt: skip
