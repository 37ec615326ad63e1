"""Single test questions, followed through the run: what each arm said to them.

The sample is drawn by a hash of the id: the same questions in every report on the same test set, and none was picked by
hand. It mixes what one arm fixed, what it broke, and what both got right or wrong, so it is not in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner import Prediction, Question, content_id
from kpod.stages.report._asked import Asked, asked
from kpod.stages.report._passage import Passage, passage, shortened
from kpod.stages.report._wired import find_questions, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.stages.report._scores import Scored

Change = Literal["fixed", "broken", "both wrong", "both right", "wrong", "right", "not scored"]

_NUM_QUESTIONS = 12
# Twelve arms on twelve questions would be a book.
_MOST_ARMS = 6


class Cast(NamedTuple):
    """The arms that a page follows through a test set.

    Args:
        baseline, other: the arms that "fixed" and "broken" speak of; equal where there is one arm.
        shown: these two and others, in the order of the test set.
        num_left_out: arms that are not shown.
    """

    baseline: str
    other: str
    shown: tuple[str, ...]
    num_left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What one arm said."""

    arm: str
    text: Passage
    answer: str | None
    rule: str | None
    is_correct: bool | None
    num_tokens: int
    finish: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """One test question and what every arm said to it."""

    test_set: str
    question: Asked
    change: Change
    said: tuple[Said, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The journeys of one test set.

    Args:
        baseline, other: the arms that "fixed" and "broken" speak of; equal where there is one arm.
        num_arms_left_out: arms that are not shown.
        sizes: how many of all questions are of each sort.
    """

    test_set: str
    baseline: str
    other: str
    num_arms_left_out: int
    sizes: dict[str, int]
    journeys: tuple[Journey, ...]


def read_journeys(archive: Archive, scored: Scored) -> Sample | None:
    """A sample of a test set's questions; None where no predictions are kept."""
    cast = cast_of(scored)
    if cast is None:
        return None
    groups: dict[Change, list[str]] = {}
    for question, change in changes_of(scored, cast).items():
        groups.setdefault(change, []).append(question)
    chosen = _spread(groups)
    return Sample(
        test_set=scored.facts.name,
        baseline=cast.baseline,
        other=cast.other,
        num_arms_left_out=cast.num_left_out,
        sizes={change: len(ids) for change, ids in sorted(groups.items(), key=in_order)},
        journeys=_told(archive, scored, chosen, cast.shown),
    )


def cast_of(scored: Scored) -> Cast | None:
    """Whom to follow; None where no predictions are kept."""
    arms = [arm.name for arm in scored.facts.arms]
    primary = [arm.name for arm in scored.facts.arms if arm.is_primary]
    baseline, other = arms[0], primary[-1] if len(primary) > 1 else arms[-1]
    if not scored.verdicts[baseline]:
        return None
    followed = list(dict.fromkeys([baseline, other, *arms]))[:_MOST_ARMS]
    shown = tuple(arm for arm in arms if arm in followed)
    return Cast(baseline, other, shown, len(arms) - len(shown))


def changes_of(scored: Scored, cast: Cast) -> dict[str, Change]:
    """What became of every question between the two arms, in the order of a hash of the ids."""
    before, after = scored.verdicts[cast.baseline], scored.verdicts[cast.other]
    is_alone = cast.baseline == cast.other
    return {
        id_: _change(before[id_], after.get(id_), is_alone=is_alone)
        for id_ in sorted(before, key=lambda id_: content_id("journey", id_))
    }


_ORDER: tuple[Change, ...] = (
    "fixed", "broken", "both wrong", "both right", "wrong", "right", "not scored",
)  # fmt: skip


def in_order(item: tuple[Change, object]) -> int:
    """The place of a sort of change among all."""
    return _ORDER.index(item[0])


def _change(before: bool | None, after: bool | None, *, is_alone: bool) -> Change:
    if before is None or after is None:
        return "not scored"
    if is_alone:
        return "right" if before else "wrong"
    if before == after:
        return "both right" if before else "both wrong"
    return "fixed" if after else "broken"


def _spread(groups: Mapping[Change, Sequence[str]]) -> dict[str, Change]:
    """As many of each sort as there are, in turn, up to the number wanted; the sorts in their order."""
    longest = max((len(ids) for ids in groups.values()), default=0)
    ordered = sorted(groups.items(), key=in_order)
    turns = [
        (ids[turn], change) for turn in range(longest) for change, ids in ordered if turn < len(ids)
    ]
    return dict(sorted(turns[:_NUM_QUESTIONS], key=lambda turn: _ORDER.index(turn[1])))


def _told(
    archive: Archive, scored: Scored, chosen: Mapping[str, Change], arms: Sequence[str]
) -> tuple[Journey, ...]:
    first = scored.units[arms[0]]
    questions = find_questions(archive, sources_of(archive, first, Question), chosen.keys())
    said = {arm: _said(archive, scored, arm, questions, chosen) for arm in arms}
    return tuple(
        Journey(
            test_set=scored.facts.name,
            question=asked(questions.get(id_), id_),
            change=change,
            said=tuple(said[arm][id_] for arm in arms if id_ in said[arm]),
        )
        for id_, change in chosen.items()
    )


def _said(
    archive: Archive,
    scored: Scored,
    arm: str,
    questions: Mapping[str, Question],
    chosen: Mapping[str, Change],
) -> dict[str, Said]:
    model = next(each.model for each in scored.facts.arms if each.name == arm)
    said: dict[str, Said] = {}
    for prediction in archive.read(scored.units[arm], "predictions", Prediction):
        id_ = prediction.question_id
        if id_ in chosen and id_ not in said and prediction.model == model:
            said[id_] = Said(
                arm=arm,
                text=passage(
                    prediction.text, question=questions.get(id_), answer=prediction.answer
                ),
                answer=None if prediction.answer is None else shortened(prediction.answer),
                rule=prediction.rule,
                is_correct=prediction.is_correct,
                num_tokens=prediction.num_tokens,
                finish=prediction.finish,
            )
    return said
