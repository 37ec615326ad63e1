"""`kpod report RUN`."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpod.runner.archive import find_run
from kpod.runner.commands._options import add_folders
from kpod.runner.config import build_config
from kpod.runner.console import say
from kpod.runner.disk import disk_problem
from kpod.runner.errors import ExitCode, KpodError
from kpod.runner.pages import PAGES
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
        config = build_config(view.config_class, settings, node=None, path="")
        try:
            with _in_place_of_the_earlier(archive.folder):
                view().render(archive, config)
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise disk_problem(error) or KpodError(
                f"cannot write in {archive.folder}: {said}"
            ) from error
        say(str(archive.folder / "report.html"))
    return ExitCode.DONE


@contextmanager
def _in_place_of_the_earlier(folder: Path) -> Iterator[None]:
    """The earlier pages, which may be links that other runs share, are moved aside, and put back where none takes their place."""
    pages = [page for name in PAGES if (page := folder / name).exists()]
    aside = [(page, page.with_name(f".{page.name}.earlier")) for page in pages]
    for page, kept in aside:
        page.replace(kept)
    try:
        yield
    except BaseException:
        for page, kept in aside:
            kept.replace(page)
        raise
    for _, kept in aside:
        kept.unlink()
