"""The text most like a text, by the words that they share; a rare word counts more than a common one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from math import log

_WORD = re.compile(r"[^\W\d_]+")


class Likeness:
    """An index of texts.

    Two texts are as alike as the words that both have weigh, against the words that either has; a word weighs the logarithm
    of how rare it is (Sparck Jones 1972, inverse document frequency). Numbers do not count: problems are alike that tell
    the same story.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._words = {key: frozenset(_WORD.findall(text.lower())) for key, text in texts.items()}
        counts = Counter(word for words in self._words.values() for word in words)
        self._weight = {word: log((1 + len(texts)) / count) for word, count in counts.items()}
        self._size = {
            key: sum(self._weight[word] for word in words) for key, words in self._words.items()
        }
        self._with: dict[str, list[str]] = {}
        for key, words in self._words.items():
            for word in words:
                self._with.setdefault(word, []).append(key)

    def nearest(self, text: str) -> tuple[str, float] | None:
        """Key and likeness in (0, 1] of the text most like this one; the first of equals; None where no word is shared."""
        words = {word for word in _WORD.findall(text.lower()) if word in self._with}
        size = sum(self._weight[word] for word in words)
        shared: Counter[str] = Counter()
        # What stands in nearly every text tells nothing: it is left out of the search, and counted below.
        telling = [word for word in words if 2 * len(self._with[word]) <= len(self._words)] or words
        for word in telling:
            for key in self._with[word]:
                shared[key] += 1
        best: tuple[float, str] | None = None
        for key, _ in shared.most_common(50):
            common = sum(self._weight[word] for word in words & self._words[key])
            either = size + self._size[key] - common
            alike = common / either if either else 0.0
            if best is None or alike > best[0]:
                best = (alike, key)
        return None if best is None else (best[1], best[0])
