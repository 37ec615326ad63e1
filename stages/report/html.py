"""The report: report.html, one file that works offline, and report.json with the same facts; of a run, or of a sweep over seeds.

A run's page opens with the answer, then scores with intervals, training, data, what the method's stages did, single
questions, all predictions with filters and a search, stages and costs, and how to run it again. A sweep's page says what its
seeds allow to say of the methods. All text of models and data sets is escaped; the only script is the search, known to the
page's content policy by its digest, and nothing is asked for from outside.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kpod.runner import View

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.stages.report._facts import Report
    from kpod.stages.report._sweep import Sweep


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

        _write(archive.folder, "page.html.jinja", read_report(archive))

    def render_sweep(
        self,
        archives: Sequence[Archive],
        folder: Path,
        config: Config,  # noqa: ARG002 - nothing to set
    ) -> None:
        """Write report.html and report.json of runs of one recipe that differ by their seed.

        Args:
            archives: complete runs, at least one, one a seed.
            folder: where both files go; it exists.
            config: nothing to set.

        Raises:
            KpodError: a run is not complete, or a file is gone from its archive.
        """
        from kpod.stages.report._sweep import read_sweep

        _write(folder, "sweep.html.jinja", read_sweep(archives, folder=folder))


def _write(folder: Path, template: str, report: Report | Sweep) -> None:
    """Both files; they take the place of earlier ones in one step each."""
    from kpod.stages.report._page import page_text, put

    facts = json.dumps(asdict(report), ensure_ascii=False, sort_keys=True, indent=1)
    put(folder / "report.json", facts + "\n")
    put(folder / "report.html", page_text(template, facts=report))
