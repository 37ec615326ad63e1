"""The text of a page, and how it takes its place on the disk."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Template


_FILTERS = (
    "percent", "bounds", "duration", "count", "p_value", "points", "signed", "listed", "plural", "times", "thinned",
    "usd",
)  # fmt: skip


def page_text(template: str, *, facts: Any) -> str:
    """The page that a template makes of its facts; everything that is put into it is escaped."""
    from kpod.stages.report import _bars, _charts, _forest

    return _template(template).render(
        report=facts,
        charts=_charts,
        bars=_bars,
        forest=_forest,
        script_digest=_digest("search.js.jinja"),
    )


@cache
def _digest(script: str) -> str:
    """By which a page's content policy knows its one script; no other runs."""
    return b64encode(sha256(_template(script).render().encode()).digest()).decode()


@cache
def _template(name: str) -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from kpod.runner import visible_text
    from kpod.stages.report import _formats
    from kpod.stages.report._worded import worded

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible_text(value) if type(value) is str else value,
    )
    environment.filters["worded"] = worded
    for formatter in _FILTERS:
        environment.filters[formatter] = getattr(_formats, formatter)
    return environment.get_template(name)


def put(path: Path, text: str) -> None:
    """Write a file beside the old one, then take its place: the old one may be a link that other runs share."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)
