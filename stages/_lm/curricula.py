"""A curriculum on the tokens of a student: which of them are given, and which it must write, at every epoch.

A token belongs to the step of its first non-space character (DESIGN 7), so a token is given or written, never half.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path

from kpod.runner import Curriculum, Rationale, StageError
from kpod.stages._lm.joining import by_rationale, shelved
from kpod.stages._lm.shelf import Shelf

CURRICULUM_ROWS = "curriculum rows"


def curriculum_by_rationale(
    curriculum: Iterable[Curriculum], rationales: Iterable[Rationale]
) -> dict[str, Curriculum]:
    """The curriculum of each of these rationales, by id, checked against its text.

    Rows of rationales that are not among these are passed over.

    Raises:
        StageError: a rationale has no row or two, or a row does not fit its text.
    """
    texts = list(rationales)
    found = by_rationale(curriculum, texts, what=CURRICULUM_ROWS)
    for rationale in texts:
        check_curriculum(found[rationale.id], rationale.text)
    return found


def shelved_curriculum(curriculum: Iterable[Curriculum], *, folder: Path) -> Shelf[Curriculum]:
    """A curriculum on disk, by the id of its rationale; whoever reads a row checks it.

    Raises:
        StageError: a rationale has two rows.
    """
    return shelved(curriculum, what=CURRICULUM_ROWS, record=Curriculum, folder=folder)


def check_curriculum(row: Curriculum, text: str) -> None:
    """Raise a StageError where a curriculum's row does not fit the text it is for."""
    is_whole = len(row.given) == len(row.cut) and all(
        0 <= given <= row.num_steps and 0 <= cut <= len(text) and (given > 0) == (cut > 0)
        for given, cut in zip(row.given, row.cut, strict=False)
    )
    if not is_whole:
        raise StageError(
            f"curriculum of rationale {row.rationale_id}: {row.num_steps} steps, given {list(row.given)},"
            f" cut {list(row.cut)} do not fit a text of {len(text)} characters\n"
            "make it again from this rationale; each epoch has one entry in both, 0 where nothing is given"
        )


def first_targets(
    cuts: Sequence[int], text: str, spans: Sequence[tuple[int, int] | None]
) -> tuple[int, ...]:
    """At which token the targets begin, for each cut.

    Args:
        cuts: characters of the rationale that are given, by epoch.
        text: the rationale's.
        spans: the characters each token of the completion covers, in order; None outside the rationale.

    Returns:
        Indices of tokens; where the whole rationale is given, of the first token after it.
    """
    inside = [index for index, span in enumerate(spans) if span is not None]
    starts = [_first_solid(text, span) for span in spans if span is not None]
    after = inside[-1] + 1 if inside else 0
    found = {0: 0}
    for cut in cuts:
        if cut not in found:
            place = bisect_left(starts, cut)
            found[cut] = inside[place] if place < len(inside) else after
    return tuple(found[cut] for cut in cuts)


def _first_solid(text: str, span: tuple[int, int]) -> int:
    """Offset of a token's first character that is no white space; its start where it has none."""
    start, end = span
    return next((at for at in range(start, end) if not text[at].isspace()), start)
