"""All that a report shows, as one value: the page is drawn from it, and report.json is it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.stages.report._clean import CleanSet, read_clean
from kpod.stages.report._costs import StageRow, Totals, read_stages, totals
from kpod.stages.report._data import DataSet, Yield, read_data_sets, read_yields
from kpod.stages.report._errors import Errors, read_errors
from kpod.stages.report._headline import Headline, headline, no_evaluation
from kpod.stages.report._journeys import Sample, read_journeys
from kpod.stages.report._ladder import Ladder, read_ladder
from kpod.stages.report._method import Method, read_method
from kpod.stages.report._predictions import Listing, read_listings
from kpod.stages.report._provenance import Provenance, read_provenance
from kpod.stages.report._scores import TestSet, read_scores
from kpod.stages.report._taught import Taught, draw_rationales, read_taught
from kpod.stages.report._training import Student, read_students

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The facts.

    Args:
        headlines: one for each test set, in their order; one that says so where there is none.
        primary: arms of the comparison that the recipe names, its baseline first.
        samples: journeys through the first test set, and through the others.
        listings: what the arms said to the questions of each test set, to be searched.
        taught: rationales that a student learned from.
        clean: accuracy on test questions that no training question looks like, where the run compared them.
        errors: right answers by number of steps, and the step that breaks first, where the run can tell.
        ladder: from the teachers' samples to what the filters kept, with what each rung cost.
        method: what weights, difficulty, clusters and curriculum did, where the run has such stages.
        format: version of report.json.
    """

    provenance: Provenance
    headlines: tuple[Headline, ...]
    primary: tuple[str, ...]
    test_sets: tuple[TestSet, ...]
    clean: tuple[CleanSet, ...]
    errors: Errors
    students: tuple[Student, ...]
    data_sets: tuple[DataSet, ...]
    yields: tuple[Yield, ...]
    ladder: Ladder
    samples: tuple[Sample, ...]
    listings: tuple[Listing, ...]
    taught: tuple[Taught, ...]
    method: Method
    stages: tuple[StageRow, ...]
    totals: Totals
    format: int = FORMAT


def read_report(archive: Archive) -> Report:
    """The facts of an archived run.

    Raises:
        KpodError: the run is not complete, or a file is gone from its archive.
    """
    scored = read_scores(archive)
    stages = read_stages(archive)
    provenance = read_provenance(archive)
    drawn = draw_rationales(archive)
    samples = (read_journeys(archive, each) for each in scored)
    return Report(
        provenance=provenance,
        headlines=tuple(headline(each.facts, seed=provenance.seed) for each in scored)
        or (no_evaluation(len({unit.stage for unit in archive.units.values()})),),
        primary=tuple(archive.facts["primary"]),
        test_sets=tuple(each.facts for each in scored),
        clean=read_clean(archive, scored),
        errors=read_errors(archive, scored),
        students=read_students(archive),
        data_sets=read_data_sets(archive),
        yields=read_yields(archive),
        ladder=read_ladder(archive),
        samples=tuple(sample for sample in samples if sample is not None),
        listings=read_listings(archive, scored),
        taught=read_taught(archive, drawn),
        method=read_method(archive, drawn),
        stages=stages,
        totals=totals(stages, seconds=archive.facts["seconds"]),
    )
