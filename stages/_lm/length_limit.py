"""How long training sequences may be: longer ones are an error or left out whole, never cut (PRACTICE 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kpod.runner import StageError

if TYPE_CHECKING:
    from kpod.stages._lm.encoding import Example, OnTooLong


class Limit:
    """How long sequences may be, and which of them were longer.

    Args:
        max_length: most tokens a sequence (either side of an encoder-decoder) may have.
        on_too_long: what is to be done with longer ones.
        has_encoder: whether the student is an encoder-decoder.
    """

    def __init__(self, max_length: int, *, on_too_long: OnTooLong, has_encoder: bool) -> None:
        self._max_length = max_length
        self._on_too_long = on_too_long
        self._has_encoder = has_encoder
        self._too_long: dict[str, int] = {}
        self._num_seen = 0

    @property
    def dropped(self) -> tuple[str, ...]:
        """Ids of the sequences that were too long, in order."""
        return tuple(self._too_long)

    def keeps(self, example: Example) -> bool:
        """Whether the sequence is short enough; it is counted."""
        self._num_seen += 1
        length = max(example.sides(has_encoder=self._has_encoder))
        if length > self._max_length:
            self._too_long[example.example_id] = length
        return length <= self._max_length

    def check(self, *, num_questions: int, num_rationales: int) -> None:
        """Raise a StageError where a sequence was too long for the recipe, or nothing is left."""
        if self._too_long and self._on_too_long == "error":
            raise _too_long(self._too_long, self._num_seen, self._max_length)
        if len(self._too_long) == self._num_seen:
            raise StageError(
                f"nothing to train on: {num_questions} questions, {num_rationales} rationales,"
                f" {len(self._too_long)} longer than {self._max_length} tokens\n"
                "look at the counts that the filter noted, or raise max_length"
            )


def _too_long(too_long: Mapping[str, int], num_all: int, max_length: int) -> StageError:
    longest = max(too_long, key=lambda name: too_long[name])
    return StageError(
        f"{len(too_long)} of {num_all} training sequences are longer than {max_length} tokens; the longest,"
        f" {longest}, has {too_long[longest]}\n"
        "raise max_length (up to the model's context), or set on_too_long: drop to leave them out"
    )
