"""A diff as one page that works offline: everything in it is escaped, and its only script is its own."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kpod.runner.errors import KpodError

if TYPE_CHECKING:
    from jinja2 import Template

    from kpod.runner.comparing.diff import Diff


def write_page(found: Diff, path: Path) -> None:
    """Write the page.

    Args:
        found: what differs.
        path: of the page; one that is there is replaced.

    Raises:
        KpodError: it cannot be written.
    """
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_text(page_text(found), encoding="utf-8", newline="\n")
        draft.replace(path)
    except OSError as error:
        raise KpodError(
            f"cannot write {path}: {error.strerror}\nname another place with --html FILE"
        ) from error


def page_text(found: Diff) -> str:
    """The page."""
    return _template().render(
        diff=found, rows=zip(found.scores, found.methods, found.flips, strict=True)
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("page.html.jinja")
