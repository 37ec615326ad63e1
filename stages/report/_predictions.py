"""The predictions on a test set, for a page to search and filter; of a large set as many questions as a page holds.

They come in the order of a hash of the id, so that those which a page holds were not picked by hand, and are the same in
every report on the same test set.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from kpod.runner import Question
from kpod.stages.report._asked import Asked, asked
from kpod.stages.report._journeys import Cast, Change, cast_of, changes_of, in_order
from kpod.stages.report._passage import shortened
from kpod.stages.report._wired import find_questions, sources_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive
    from kpod.stages.report._scores import Scored

# GSM8K's test set has 1,319 questions: all of them, with two arms, are about 2 MB.
_MOST_QUESTIONS = 1500
# Of a page that is to stay below 3 MB with everything else that stands in it.
_MOST_BYTES = 1_900_000
# The markup around a question, and around what an arm said to it.
_QUESTION_BYTES, _REPLY_BYTES = 520, 330
# The end of a text holds its answer.
_MOST_CHARACTERS, _TAIL = 600, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one arm said to a question; the first of its samples."""

    text: str
    answer: str | None
    is_correct: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One question.

    Args:
        replies: one an arm, in the order of `Listing.arms`; None where an arm was not asked.
    """

    question: Asked
    change: Change
    replies: tuple[Reply | None, ...]

    @property
    def codes(self) -> str:
        """A letter an arm: r right, w wrong, n wrong for want of an answer, u and x the same without gold, - not asked."""
        return "".join(map(_code, self.replies))


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The predictions on one test set.

    Args:
        arms: that are shown.
        baseline, other: the arms that "fixed" and "broken" speak of; equal where there is one arm.
        num_arms_left_out: that are not.
        num_questions: that were asked; more than there are rows where the page could not hold them.
        sizes: rows of each sort of change.
    """

    test_set: str
    arms: tuple[str, ...]
    baseline: str
    other: str
    num_arms_left_out: int
    num_questions: int
    sizes: dict[Change, int]
    rows: tuple[Row, ...]


def read_listings(archive: Archive, scored: Sequence[Scored]) -> tuple[Listing, ...]:
    """The predictions on every test set of which some are kept; all sets share what a page holds."""
    kept = [(each, cast) for each in scored if (cast := cast_of(each)) is not None]
    return tuple(_listing(archive, each, cast, _MOST_BYTES // len(kept)) for each, cast in kept)


def _listing(archive: Archive, scored: Scored, cast: Cast, most_bytes: int) -> Listing:
    changes = changes_of(scored, cast)
    wanted = dict(list(changes.items())[:_MOST_QUESTIONS])
    rows = tuple(_fitting(_rows(archive, scored, cast, wanted), most_bytes))
    sizes: dict[Change, int] = {}
    for row in rows:
        sizes[row.change] = sizes.get(row.change, 0) + 1
    return Listing(
        test_set=scored.facts.name,
        arms=cast.shown,
        baseline=cast.baseline,
        other=cast.other,
        num_arms_left_out=cast.num_left_out,
        num_questions=len(changes),
        sizes=dict(sorted(sizes.items(), key=in_order)),
        rows=rows,
    )


def _rows(
    archive: Archive, scored: Scored, cast: Cast, wanted: Mapping[str, Change]
) -> Iterator[Row]:
    first = scored.units[cast.shown[0]]
    questions = find_questions(archive, sources_of(archive, first, Question), wanted.keys())
    said = [_replies(archive, scored, arm, wanted) for arm in cast.shown]
    for id_, change in wanted.items():
        yield Row(
            question=asked(questions.get(id_), id_),
            change=change,
            replies=tuple(replies.get(id_) for replies in said),
        )


def _replies(
    archive: Archive, scored: Scored, arm: str, wanted: Mapping[str, Change]
) -> dict[str, Reply]:
    model = next(each.model for each in scored.facts.arms if each.name == arm)
    found: dict[str, Reply] = {}
    for row in archive.rows(scored.units[arm], "predictions"):
        id_: str = row["question_id"]
        if id_ in wanted and id_ not in found and row["model"] == model:
            found[id_] = _reply(row)
    return found


def _reply(row: Mapping[str, Any]) -> Reply:
    answer: str | None = row["answer"]
    return Reply(
        text=shortened(row["text"], most=_MOST_CHARACTERS, tail=_TAIL),
        answer=None if answer is None else shortened(answer, most=_MOST_CHARACTERS, tail=_TAIL),
        is_correct=row["is_correct"],
    )


def _fitting(rows: Iterator[Row], most_bytes: int) -> Iterator[Row]:
    """The first rows, as long as they fit; one at least."""
    used = 0
    for row in rows:
        used += _size_b(row)
        if used > most_bytes and used != _size_b(row):
            return
        yield row


def _size_b(row: Row) -> int:
    replies = [reply for reply in row.replies if reply is not None]
    question = row.question
    texts = [question.text, *question.choices, question.gold or ""]
    texts += [text for reply in replies for text in (reply.text, reply.answer or "")]
    written = sum(len(escape(text).encode("utf-8", "replace")) for text in texts)
    return written + _QUESTION_BYTES + _REPLY_BYTES * len(replies)


def _code(reply: Reply | None) -> str:
    if reply is None:
        return "-"
    if reply.is_correct is None:
        return "x" if reply.answer is None else "u"
    if reply.is_correct:
        return "r"
    return "n" if reply.answer is None else "w"
