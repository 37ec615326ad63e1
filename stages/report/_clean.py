"""Accuracy on test questions that no training question looks like, beside that on all of them.

A test question that is a training question is refused before a run starts; one that differs from a training question only by
its numbers is what is counted here. Which sets are held against each other is told by the run's events; what they hold is
read again from the archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kpod.runner import Question, match_questions
from kpod.stages.report._formats import Share
from kpod.stages.report._wired import Source, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.stages.report._scores import Scored

# Stages that make questions from templates: to differ by numbers alone is what their questions are made for.
_PROCEDURAL = ("data.word_problems",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanArm:
    """One model on all questions with a gold answer, and on those that no training question looks like."""

    name: str
    full: Share | None
    clean: Share | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanSet:
    """One set of test questions, held against the training questions of the run.

    Args:
        test_set: as the page names it.
        train: where the training questions come from.
        num_questions: test questions.
        num_exact, num_masked: of these, those that are training questions, and those that differ from one only by numbers.
        is_procedural: whether both are made from templates, so that look-alikes are what one expects.
        arms: in the order of the page; none where questions were answered more than once.
    """

    test_set: str
    train: tuple[str, ...]
    num_questions: int
    num_exact: int
    num_masked: int
    is_procedural: bool
    arms: tuple[CleanArm, ...]


def read_clean(archive: Archive, scored: tuple[Scored, ...]) -> tuple[CleanSet, ...]:
    """Every set of test questions that the run held against training questions."""
    checked = _checked(archive)
    found = (_clean(archive, each, checked) for each in scored)
    return tuple(each for each in found if each is not None)


def _checked(archive: Archive) -> dict[str, list[str]]:
    """The training outputs by the test output that they were held against."""
    checked: dict[str, list[str]] = {}
    for event in archive.events():
        if event["event"] == "contamination_checked":
            checked.setdefault(event["test"], []).append(event["train"])
    return checked


def _clean(archive: Archive, scored: Scored, checked: Mapping[str, list[str]]) -> CleanSet | None:
    unit = next(iter(scored.units.values()))
    asked = [
        source
        for source in sources_of(archive, unit, Question)
        if f"{source.unit.stage}.{source.output}" in checked
    ]
    names = dict.fromkeys(
        name for source in asked for name in checked[f"{source.unit.stage}.{source.output}"]
    )
    taught = [source for name in names for source in _named(archive, name)]
    if not asked or not taught:
        return None
    matched = match_questions(_questions(archive, taught), _questions(archive, asked))
    return CleanSet(
        test_set=scored.facts.name,
        train=tuple(names),
        num_questions=scored.facts.num_questions,
        num_exact=len(matched.exact),
        num_masked=len(matched.masked - matched.exact),
        is_procedural=all(source.unit.uses in _PROCEDURAL for source in (*asked, *taught)),
        arms=()
        if scored.facts.has_samples
        else tuple(
            CleanArm(
                name=arm.name,
                full=_share(scored.verdicts[arm.name], frozenset()),
                clean=_share(scored.verdicts[arm.name], matched.masked),
            )
            for arm in scored.facts.arms
        ),
    )


def _named(archive: Archive, wire: str) -> list[Source]:
    """The units' outputs that a wire stands for."""
    stage, _, output = wire.partition(".")
    return [
        Source(unit, output)
        for unit in archive.units.values()
        if unit.stage == stage and output in unit.manifest.outputs
    ]


def _questions(archive: Archive, sources: list[Source]) -> Iterator[Question]:
    for unit, output in sources:
        yield from archive.read(unit, output, Question)


def _share(verdicts: Mapping[str, bool | None], without: frozenset[str]) -> Share | None:
    """Right answers of the questions with a gold answer, less those with the given ids."""
    counted = [
        verdict for id_, verdict in verdicts.items() if verdict is not None and id_ not in without
    ]
    return Share.of(sum(counted), len(counted))
