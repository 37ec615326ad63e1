"""Rows that wait for a batch: longest first, claimed before they are decoded, so that no two processes write one text."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from kpod.stages._lm.decoding import Row, row_tokens

if TYPE_CHECKING:
    from kpod.runner.texts import TextStore

# A shorter prefix is not worth a model call of its own: our choice; 32 tokens are about one line of a prompt.
_SHORTEST_PREFIX = 32


class WaitingRows:
    """Takes rows out in groups that fit a budget.

    Args:
        rows: named by their texts' keys.
        budget: tokens of prompts and texts that may be held at once; one row is always let in.
        store: where rows are claimed.
        but_refused: a text that was refused counts as not written.

    Attributes:
        elsewhere: rows that another process writes, or has written in the meantime.
        claimed: names of the rows that were given out.
    """

    def __init__(
        self, rows: Sequence[Row], *, budget: int, store: TextStore, but_refused: bool
    ) -> None:
        # By length, so that a group pads little; the name settles the order, so that it is the same in every process.
        self._rows = sorted(rows, key=lambda row: (row_tokens(row), row.name))
        self._budget = budget
        self._store = store
        self._but_refused = but_refused
        self.elsewhere: list[Row] = []
        self.claimed: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._rows)

    def take(self, *, beside: int = 0, tokens_a_row: int = 0) -> list[Row]:
        """The next rows, all of them claimed; none where no more fit, or where nothing is left.

        Args:
            beside: rows that are held already.
            tokens_a_row: the most that one of those may come to.
        """
        while group := self._next_group(beside, tokens_a_row):
            mine = self._store.claim([row.name for row in group], but_refused=self._but_refused)
            self.claimed |= mine
            self.elsewhere += [row for row in group if row.name not in mine]
            if mine:
                return [row for row in group if row.name in mine]
        return []

    def _next_group(self, beside: int, width: int) -> list[Row]:
        group: list[Row] = []
        while self._rows:
            width = max(width, row_tokens(self._rows[-1]))
            num_rows = beside + len(group)
            if num_rows and width * (num_rows + 1) > self._budget:
                break
            group.append(self._rows.pop())
        return group

    def common_prefix(self) -> tuple[int, ...]:
        """The tokens that all prompts begin with, less than any of them; none where they are too few to be worth it."""
        return common_prefix([row.prompt_ids for row in self._rows])


def common_prefix(prompts: Collection[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens with which two or more prompts all begin, less than any of them; none below 32."""
    if len(prompts) < 2:
        return ()
    first, last = min(prompts), max(prompts)
    shortest = min(len(prompt) for prompt in prompts)
    # What the first and the last in order share, all between them share.
    length = 0
    while length < shortest - 1 and first[length] == last[length]:
        length += 1
    return first[:length] if length >= _SHORTEST_PREFIX else ()
