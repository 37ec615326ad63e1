"""`kpod report RUN`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from kpod.runner.archive import find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.config import build_config
from kpod.runner.console import say
from kpod.runner.errors import ExitCode
from kpod.runner.registry import find_stage
from kpod.runner.stage import View


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument("run", metavar="RUN", help="a folder, a name, or `last`")
    add_folders(parser)


def run(arguments: Namespace) -> int:
    """Do it: every view of the run's recipe, or report.html where it has none."""
    archive = find_run(arguments.run, arguments.runs)
    views = archive.facts["views"] or {"report": "report.html"}
    for view_id, uses in views.items():
        view = find_stage(uses)
        assert issubclass(view, View)
        settings = archive.resolved["stages"].get(view_id, {}).get("with") or {}
        for name in ("report.html", "report.json"):
            (archive.folder / name).unlink(
                missing_ok=True
            )  # it may be a link that other runs share
        view().render(archive, build_config(view.config_class, settings, node=None, path=""))
        say(str(archive.folder / "report.html"))
    return ExitCode.DONE
