"""Which groups the questions fall into, and what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from heapq import nsmallest
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import Assignment, Question, content_id
from kpod.stages.report._notes import Note, flat_notes
from kpod.stages.report._passage import shortened
from kpod.stages.report._taught import Drawn
from kpod.stages.report._wired import Source, find_questions, made_by, sources_of, takers

if TYPE_CHECKING:
    from kpod.runner.archive import Archive

_NUM_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One group of questions.

    Args:
        number: counted from 0, as records have it.
        size: questions in it.
        examples: texts of a few of them.
    """

    number: int
    size: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """What one stage grouped.

    Args:
        taken_by: stages that read it.
        has_nearest: whether the examples are those nearest the centre, as the stage noted; else they are drawn by a hash.
        notes: whatever else the stage told.
    """

    name: str
    uses: str
    taken_by: tuple[str, ...]
    num_questions: int
    clusters: tuple[Cluster, ...]
    has_nearest: bool
    notes: tuple[Note, ...]


class Grouped(NamedTuple):
    """The facts, and the clusters of the questions that the page shows, by question id."""

    facts: Grouping
    rows: Mapping[str, int]


def read_groupings(archive: Archive, drawn: Drawn) -> tuple[Grouped, ...]:
    """Every output of clusters, in the order of the run."""
    return tuple(
        _grouped(archive, source, drawn) for source in made_by(archive, "clustering", Assignment)
    )


def _grouped(archive: Archive, source: Source, drawn: Drawn) -> Grouped:
    of = {row.question_id: row.cluster for row in archive.read(*source, Assignment)}
    sizes = Counter(of.values())
    noted = _noted_examples(source.unit.manifest.notes)
    examples = noted or _drawn_examples(archive, source, of)
    facts = Grouping(
        name=source.unit.name,
        uses=source.unit.uses,
        taken_by=takers(archive, source),
        num_questions=len(of),
        clusters=tuple(
            Cluster(number=cluster, size=sizes[cluster], examples=examples.get(cluster, ()))
            for cluster in sorted(sizes)
        ),
        has_nearest=bool(noted),
        notes=flat_notes(source.unit.manifest.notes, without=("clusters",)),
    )
    wanted = {rationale.question_id for rationale in drawn.rationales.values()}
    return Grouped(facts, {id_: of[id_] for id_ in wanted if id_ in of})


def _noted_examples(notes: Mapping[str, Any]) -> dict[int, tuple[str, ...]]:
    """From the note `clusters`: objects with a cluster and texts."""
    noted = notes.get("clusters")
    rows = noted if isinstance(noted, list) else []
    return {
        row["cluster"]: tuple(shortened(str(text)) for text in row["examples"][:_NUM_EXAMPLES])
        for row in rows
        if isinstance(row, Mapping)
        and isinstance(row.get("cluster"), int)
        and isinstance(row.get("examples"), list)
    }


def _drawn_examples(
    archive: Archive, source: Source, of: Mapping[str, int]
) -> dict[int, tuple[str, ...]]:
    ids = {
        cluster: nsmallest(
            _NUM_EXAMPLES,
            (id_ for id_, other in of.items() if other == cluster),
            key=lambda id_: content_id("cluster", id_),
        )
        for cluster in set(of.values())
    }
    wanted = {id_ for drawn in ids.values() for id_ in drawn}
    questions = find_questions(archive, sources_of(archive, source.unit, Question), wanted)
    return {
        cluster: tuple(shortened(questions[id_].text) for id_ in drawn if id_ in questions)
        for cluster, drawn in ids.items()
    }
