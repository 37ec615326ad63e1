"""The method's own stages, as the page tells of them: weights, difficulty, clusters, curriculum, and what they do to a few questions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kpod.stages.report._clusters import Grouped, Grouping, read_groupings
from kpod.stages.report._curriculum import Plan, Planned, read_plans
from kpod.stages.report._difficulty import Hardness, Measured, read_difficulties
from kpod.stages.report._lessons import Lesson, read_lessons
from kpod.stages.report._weights import Weighed, Weighting, read_weightings

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.stages.report._taught import Drawn


class Found(NamedTuple):
    """What the stages made, with the rows of the rationales that are shown."""

    weightings: tuple[Weighed, ...]
    difficulties: tuple[Measured, ...]
    groupings: tuple[Grouped, ...]
    plans: tuple[Planned, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """Every stage of the method, in the order of the run; all empty where the run has none.

    Args:
        lessons: training questions, followed through these stages.
    """

    weightings: tuple[Weighting, ...]
    difficulties: tuple[Hardness, ...]
    groupings: tuple[Grouping, ...]
    plans: tuple[Plan, ...]
    lessons: tuple[Lesson, ...]


def read_method(archive: Archive, drawn: Drawn) -> Method:
    """The facts of the method's stages.

    Args:
        archive: of a complete run.
        drawn: the rationales that are shown.

    Raises:
        KpodError: a file is gone from the archive.
    """
    found = Found(
        weightings=read_weightings(archive, drawn),
        difficulties=read_difficulties(archive, drawn),
        groupings=read_groupings(archive, drawn),
        plans=read_plans(archive, drawn),
    )
    return Method(
        weightings=tuple(each.facts for each in found.weightings),
        difficulties=tuple(each.facts for each in found.difficulties),
        groupings=tuple(each.facts for each in found.groupings),
        plans=tuple(each.facts for each in found.plans),
        lessons=read_lessons(found, drawn),
    )
