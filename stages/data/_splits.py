"""Questions into train, validation and test: merged, checked to share none, limited, and written as they are read.

What is kept of a question is its id as a 64-bit number and a hash of its answer, so that a table of any size streams.
Shares and limits go by hash of the question id, never by position: adding or reordering rows moves no other question.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from kpod.runner import Doc, Ge, Question, StageError
from kpod.stages._lm.answers import canonical

if TYPE_CHECKING:
    from kpod.runner import Context, Output

Split = Literal["train", "validation", "test"]
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_NUM_EXAMPLES = 3
_ROWS_A_REPORT = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most so many questions of each split: the first ones by hash of the question id."""

    train: Annotated[int | None, Doc("Questions to keep of train; null: all."), Ge(0)] = None
    validation: Annotated[int | None, Doc("Questions to keep of validation; null: all."), Ge(0)] = (
        None
    )
    test: Annotated[int | None, Doc("Questions to keep of test; null: all."), Ge(0)] = None

    def of(self, split: Split) -> int | None:
        """The limit of one split."""
        return {"train": self.train, "validation": self.validation, "test": self.test}[split]


NO_LIMIT = Limit()


class Placed(NamedTuple):
    """A question and the place it was read from (`file:line`)."""

    where: str
    question: Question


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Questions that come from one place.

    Args:
        read: starts reading them; called again where a limit needs a second pass.
        split_of: the split a question belongs to, by its id.
    """

    read: Callable[[], Iterator[Placed]]
    split_of: Callable[[str], Split]


@dataclass(slots=True)
class _Counts:
    written: dict[Split, int] = field(default_factory=lambda: dict.fromkeys(_SPLITS, 0))
    num_rows: int = 0
    num_merged: int = 0
    num_overlap: int = 0
    overlap: list[str] = field(default_factory=list)
    num_unreadable: int = 0
    unreadable: list[str] = field(default_factory=list)


def id_rank(question_id: str, *, purpose: str) -> int:
    """A number in [0, 2**64) that a question id always has, another one for each purpose."""
    digest = hashlib.blake2b(f"{purpose}:{question_id}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def held_out(validation_frac: float) -> Callable[[str], Split]:
    """Sends a share of the questions of train to validation, by hash of the id: stable under growth.

    Args:
        validation_frac: in [0, 1).
    """
    bound = int(validation_frac * 2**64)

    def split_of(question_id: str) -> Split:
        is_held = bound and id_rank(question_id, purpose="validation") < bound
        return "validation" if is_held else "train"

    return split_of


def publish(
    ctx: Context[Any],
    outputs: Mapping[Split, Output[Question]],
    parts: Sequence[Part],
    *,
    limit: Limit,
    drops_overlap: bool,
) -> None:
    """Write the questions of all parts, and note how many rows were merged, dropped or missing.

    Args:
        ctx: the stage's context.
        outputs: the three outputs.
        parts: in order of precedence: a question of an earlier part may not stand in a later one.
        limit: questions to keep of each split.
        drops_overlap: drop such a question from the later part and count it (published sets); else it is an error.

    Raises:
        StageError: one question has two gold answers, a gold answer is none of its kind, parts share questions, or nothing
            is left.
    """
    counts = _Counts()
    taken: dict[int, int] = {}
    with ExitStack() as stack:
        writers = {split: stack.enter_context(ctx.write(outputs[split])) for split in _SPLITS}
        for part in parts:
            bounds = _bounds(ctx, part, taken, limit)
            seen: dict[int, int] = {}
            for split, placed in _sift(ctx, part, taken, seen, counts):
                question, bound = placed.question, bounds.get(split)
                if bound is None or id_rank(question.id, purpose="limit") <= bound:
                    _look_at_gold(placed, counts)
                    is_named = question.split == split
                    writers[split].add(question if is_named else replace(question, split=split))
                    counts.written[split] += 1
            if counts.overlap and not drops_overlap:
                raise StageError(_overlap(counts))
            if part is not parts[-1]:
                taken |= seen
        if counts.num_unreadable:
            raise StageError(_unreadable(counts))
        _check_any(counts)
    _note(ctx, counts)


def _sift(
    ctx: Context[Any], part: Part, taken: Mapping[int, int], seen: dict[int, int], counts: _Counts
) -> Iterator[tuple[Split, Placed]]:
    """The distinct questions of a part with their split, less those that an earlier part has."""
    for placed in part.read():
        counts.num_rows += 1
        if counts.num_rows % _ROWS_A_REPORT == 0:
            ctx.progress(counts.num_rows, counts.num_rows, unit="rows")
        question = placed.question
        key = int(question.id, 16)
        answer = hash(question.answer)
        if key in seen:
            if seen[key] != answer:
                raise StageError(_two_answers(part, placed))
            counts.num_merged += 1
            continue
        seen[key] = answer
        if key in taken:
            counts.num_overlap += 1
            if len(counts.overlap) < _NUM_EXAMPLES:
                counts.overlap.append(f"{placed.where}: {question.id} {_shown(question.text)}")
        else:
            yield part.split_of(question.id), placed


def _bounds(
    ctx: Context[Any], part: Part, taken: Mapping[int, int], limit: Limit
) -> dict[Split, int]:
    """For each limited split the highest rank to keep; read in a pass of its own, which holds numbers only."""
    if all(limit.of(split) is None for split in _SPLITS):
        return {}
    ranks: dict[Split, list[int]] = {split: [] for split in _SPLITS}
    for split, placed in _sift(ctx, part, taken, {}, _Counts()):
        size = limit.of(split)
        if size is not None:
            rank = -id_rank(placed.question.id, purpose="limit")
            if len(ranks[split]) < size:
                heapq.heappush(ranks[split], rank)
            elif size > 0:
                heapq.heappushpop(ranks[split], rank)
    limited = [split for split in _SPLITS if limit.of(split) is not None]
    return {split: -ranks[split][0] if ranks[split] else -1 for split in limited}


def _two_answers(part: Part, later: Placed) -> str:
    question = later.question
    first = next(placed for placed in part.read() if placed.question.id == question.id)
    return (
        f"question {question.id} has two gold answers: {_shown(question.text)}\n"
        f"  {first.where}: {_gold(first.question)}\n  {later.where}: {_gold(question)}\n"
        "  allowed: equal rows (they merge)\n  mend or delete one of the two"
    )


def _gold(question: Question) -> str:
    return "none" if question.answer is None else repr(question.answer)


def _overlap(counts: _Counts) -> str:
    more = counts.num_overlap - len(counts.overlap)
    shown = [*counts.overlap, *([f"and {more} more"] if more else [])]
    number = f"{counts.num_overlap} question{'s' if counts.num_overlap > 1 else ''}"
    return (
        f"got {number} in more than one split:\n"
        + "".join(f"  {line}\n" for line in shown)
        + "  allowed: a question in one of train, validation and test\n"
        "  delete them from the file that is named here"
    )


def _look_at_gold(placed: Placed, counts: _Counts) -> None:
    """Whether a text could match it: else the teacher is paid for a question that no rationale answers, or a test cannot be passed."""
    question = placed.question
    if question.answer is None:
        return
    if canonical(question.answer, question.kind, question.choices) is not None:
        return
    counts.num_unreadable += 1
    if len(counts.unreadable) < _NUM_EXAMPLES:
        counts.unreadable.append(
            f"{placed.where}: {_gold(question)} for a question of kind {question.kind}"
        )


def _unreadable(counts: _Counts) -> str:
    more = counts.num_unreadable - len(counts.unreadable)
    shown = [*counts.unreadable, *([f"and {more} more"] if more else [])]
    return (
        f"got {counts.num_unreadable} gold answer{'s' if counts.num_unreadable > 1 else ''} that cannot be read:\n"
        + "".join(f"  {line}\n" for line in shown)
        + "  allowed: one number (numeric), a letter of the choices (choice), yes or no (yesno), any words (text); nothing"
        " where there is no gold answer\n"
        "  mend these rows, or give the stage the kind that its answers have"
    )


def _check_any(counts: _Counts) -> None:
    if not counts.written["train"] and not counts.written["test"]:
        raise StageError(
            f"empty data set: got {counts.num_rows} rows and kept no question of train or test\n"
            "  allowed: at least one question\n  check the files and the setting 'limit'"
        )


def _note(ctx: Context[Any], counts: _Counts) -> None:
    ctx.note("questions", dict(counts.written))
    ctx.note("rows_merged", counts.num_merged)
    ctx.note("overlap_removed", counts.num_overlap)
    empty = [split for split in _SPLITS if not counts.written[split]]
    if empty:
        ctx.note("empty_splits", empty)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
