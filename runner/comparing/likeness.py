"""The text most like a text, by the words that they share; a rare word counts more than a common one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import chain
from math import fsum, log
from typing import NamedTuple

_WORD = re.compile(r"[^\W\d_]+")
# The same for ASCII, in a third of the time.
_NO_LETTERS = {code: " " for code in range(128) if not chr(code).isalpha()}

_MOST_WEIGHED = 50
"""Texts with the most words in common that are weighed against each other: our choice."""


class Near(NamedTuple):
    """A text that was found, and how alike the two are, in (0, 1]."""

    key: str
    alike: float


class Likeness:
    """An index of texts.

    Two texts are as alike as the words that both have weigh, against the words that either has; a word weighs the logarithm
    of how rare it is (Sparck Jones 1972, inverse document frequency). Numbers do not count: problems are alike that tell
    the same story.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._words = {key: words_of(text) for key, text in texts.items()}
        self._counts = Counter(chain.from_iterable(self._words.values()))
        self._place = {key: place for place, key in enumerate(texts)}

    def nearest(self, texts: Sequence[str]) -> list[Near | None]:
        """For each of these texts the one of the index most like it, the first of equals; None where no word is shared."""
        asked = [words_of(text) & self._counts.keys() for text in texts]
        wanted = frozenset(chain.from_iterable(asked))
        holding: dict[str, list[str]] = {word: [] for word in wanted}
        for key, words in self._words.items() if wanted else ():
            for word in words & wanted:
                holding[word].append(key)
        return [self._nearest(words, holding) for words in asked]

    def _nearest(self, words: frozenset[str], holding: Mapping[str, Sequence[str]]) -> Near | None:
        # What stands in nearly every text tells nothing: it is left out of the search, and counted below.
        telling = [word for word in words if 2 * len(holding[word]) <= len(self._words)] or words
        shared = Counter(chain.from_iterable(holding[word] for word in telling))
        size = self._weight(words)
        best: Near | None = None
        for key in self._most(shared):
            common = self._weight(words & self._words[key])
            either = size + self._weight(self._words[key]) - common
            alike = common / either if either else 0.0
            if best is None or alike > best.alike:
                best = Near(key, alike)
        return best

    def _most(self, shared: Mapping[str, int]) -> Iterator[str]:
        """The texts that share most words; in the order of the index where they share as many, as a set of words has none."""
        by_count: dict[int, list[str]] = {}
        for key, count in shared.items():
            by_count.setdefault(count, []).append(key)
        left = _MOST_WEIGHED
        for count in sorted(by_count, reverse=True):
            yield from nsmallest(left, by_count[count], key=self._place.__getitem__)
            left = max(0, left - len(by_count[count]))

    def _weight(self, words: Collection[str]) -> float:
        """Of words of the index; exact, so that their order does not matter."""
        return fsum(log((1 + len(self._words)) / self._counts[word]) for word in words)


def words_of(text: str) -> frozenset[str]:
    """The words of a text, in lower case, each once; digits and signs are none."""
    lower = text.lower()
    if lower.isascii():
        return frozenset(lower.translate(_NO_LETTERS).split())
    return frozenset(_WORD.findall(lower))
