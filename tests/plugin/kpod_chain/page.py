"""A view: the names of the run's units, on a page."""

import json
from dataclasses import dataclass

from kpod.runner import View
from kpod.runner.archive import Archive
from kpod_chain import journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Nothing to set."""


class Page(View[Config]):
    """A page with a line a unit."""

    uses = "chain.page"

    def render(self, archive: Archive, config: Config) -> None:
        """Write the page and its facts."""
        journal.write("page")
        names = list(archive.units)
        (archive.folder / "report.html").write_text("\n".join(names), encoding="utf-8")
        (archive.folder / "report.json").write_text(json.dumps(names), encoding="utf-8")
