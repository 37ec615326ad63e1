"""The report: report.html, one file that works offline, and report.json with the same facts.

It opens with the answer, then scores with intervals, training, data, single questions, stages and costs, and how to run
it again. All text of models and data sets is escaped; the page holds no script and asks for nothing from outside.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kpod.runner import View

if TYPE_CHECKING:
    from jinja2 import Template

    from kpod.runner.archive import Archive
    from kpod.stages.report._facts import Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set."""


class Html(View[Config]):
    """A page that answers which arm is best, how sure that is, and where it comes from."""

    uses = "report.html"

    def render(self, archive: Archive, config: Config) -> None:  # noqa: ARG002 - nothing to set
        """Write report.html and report.json into the archive.

        Raises:
            KpodError: the run is not complete, or a file is gone from its archive.
        """
        from kpod.stages.report._facts import read_report

        report = read_report(archive)
        facts = json.dumps(asdict(report), ensure_ascii=False, sort_keys=True, indent=1)
        _replace(archive.folder / "report.json", facts + "\n")
        _replace(archive.folder / "report.html", _page(report))


def _page(report: Report) -> str:
    """The page's text."""
    from kpod.stages.report import _charts

    charts = _charts.loss_charts(report.students)
    return _template().render(report=report, charts=charts, size=_charts)


@cache
def _template() -> Template:
    """The compiled page; everything that is put into it is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from kpod.stages.report import _formats

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "bounds", "duration", "count", "p_value", "listed", "plural"):
        environment.filters[name] = getattr(_formats, name)
    return environment.get_template("page.html.jinja")


def _replace(path: Path, text: str) -> None:
    """Write a file beside the old one, then take its place: the old one may be a link that other runs share."""
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8", newline="\n")
    draft.replace(path)
