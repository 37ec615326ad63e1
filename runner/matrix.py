"""The matrix of a sweep: dotted settings with several values each, and seeds; all combinations of them are its cells.

`stages.standard.with.learning_rate=1e-4,3e-4` names two values, `stages.standard.with.epochs=1..3` three whole numbers,
`seed=0..4` five seeds. A value reads as after `--set`; one with a comma stands in quotes or brackets.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from kpod.runner.document import Mapping, plain, set_value
from kpod.runner.errors import KpodError, Position

MAX_CELLS = 1000
"""Runs of one sweep, our choice: more is a slip of the keyboard (`1..10000`)."""

ALLOWED = "seed=0..4, seed=0,3,7, stages.ID.with.SETTING=a,b or stages.ID.with.SETTING=1..3"

_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)")
_SEEDS = re.compile(r"\d+(\.\.\d+|(,\d+)*)")
_CLOSING = {"[": "]", "{": "}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One setting and the values that it takes.

    Args:
        name: dotted, as after `--set`.
        values: as they are written, each another value; at least one.
    """

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Combination:
    """One value of each axis.

    Args:
        settings: `a.b=value`, as after `--set`.
        label: the same for people, short; "" where there is no axis.
    """

    settings: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a sweep: a combination under a seed."""

    combination: Combination
    seed: int

    @property
    def name(self) -> str:
        """`learning_rate=1e-4 seed 0`, or `seed 0` where nothing else is swept."""
        return f"{self.combination.label} seed {self.seed}".strip()

    @property
    def settings(self) -> list[str]:
        """All that is set for this run."""
        return [*self.combination.settings, f"seed={self.seed}"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """What is swept.

    Args:
        axes: the settings, in the order given.
        seeds: in the order given; none: the recipe's own.
    """

    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]

    def combinations(self) -> list[Combination]:
        """The product of all axes, the last one changing first; one without settings where there is no axis."""
        names = _short_names([axis.name for axis in self.axes])
        return [
            Combination(
                settings=tuple(f"{axis.name}={value}" for axis, value in zip(self.axes, values, strict=True)),
                label=" ".join(f"{name}={value}" for name, value in zip(names, values, strict=True)),
            )
            for values in product(*(axis.values for axis in self.axes))
        ]  # fmt: skip

    def cells(self, *, own_seed: int) -> list[Cell]:
        """Every combination under every seed; seeds change first, so that runs side by side share little that is still to be made.

        Args:
            own_seed: of the recipe, where no seed is swept.
        """
        return [
            Cell(combination=combination, seed=seed)
            for combination in self.combinations()
            for seed in self.seeds or (own_seed,)
        ]


def parse_matrix(words: Sequence[str], *, settings: Sequence[str] = ()) -> Matrix:
    """The matrix that the words of a command line name.

    Args:
        words: `name=values` each, `seed` among the names.
        settings: what `--set` gives; a name is set in one place only.

    Raises:
        KpodError: there is no word, a word is none of the allowed, a name stands twice, or the cells are too many.
        RecipeError: a value is none that `--set` would take.
    """
    if not words:
        raise KpodError(f"nothing is swept\nallowed: {ALLOWED}")
    seeds: tuple[int, ...] = ()
    axes: list[Axis] = []
    for word in words:
        if word.partition("=")[0] == "seed":
            seeds = tuple(parse_seeds(word))
        else:
            axes.append(parse_axis(word))
    given = [word.partition("=")[0].strip() for word in [*words, *settings]]
    for name, times in Counter(given[: len(words)]).items():
        if times > 1:
            raise KpodError(f"{name} is swept {times} times\nname it once, with all its values")
        if name in given[len(words) :]:
            raise KpodError(
                f"{name} is swept and set\ndrop --set {name}=…, or sweep something else"
            )
    matrix = Matrix(axes=tuple(axes), seeds=seeds)
    num_cells = prod(len(axis.values) for axis in axes) * max(1, len(seeds))
    if num_cells > MAX_CELLS:
        raise KpodError(
            f"the sweep has {num_cells:,} runs\nallowed: up to {MAX_CELLS:,}; sweep fewer values at a time"
        )
    return matrix


def parse_seeds(text: str) -> list[int]:
    """`seed=0..4` or `seed=0,3,7`.

    Raises:
        KpodError: it is neither.
    """
    name, _, values = text.partition("=")
    if name == "seed" and _SEEDS.fullmatch(values):
        spread = _RANGE.fullmatch(values)
        if spread is None:
            return list(dict.fromkeys(map(int, values.split(","))))
        if int(spread[1]) <= int(spread[2]):
            return list(_whole_numbers(text, int(spread[1]), int(spread[2])))
    raise KpodError(f"got '{text}'\nallowed: seed=0..4 or seed=0,3,7")


def parse_axis(word: str) -> Axis:
    """`name=a,b`; `1..3` stands for 1, 2 and 3, and a value that is written twice counts once.

    Raises:
        KpodError: it is no such word, or a range runs backwards.
        RecipeError: a value is none that `--set` would take.
    """
    name, equals, text = word.partition("=")
    name = name.strip()
    if not equals or not name or not text.strip():
        raise KpodError(f"got '{word}'\nallowed: {ALLOWED}")
    found: dict[str, str] = {}
    for value in (each for piece in split_values(text) for each in _spread(word, piece)):
        if not value:
            raise KpodError(f"got '{word}', with a value that is empty\nwrite null for no value")
        document = set_value(Mapping({}, Position("--matrix")), name, value, Position("--matrix"))
        found.setdefault(repr(plain(document)), value)
    return Axis(name=name, values=tuple(found.values()))


def split_values(text: str) -> list[str]:
    """The text at its commas, but for those within quotes, `[ ]` or `{ }`."""
    pieces, closing, quote = [""], list[str](), ""
    for character in text:
        before = pieces[-1].rstrip()[-1:]
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and before in {"", "[", "{", ":", ","}:
            quote = character
        elif character in _CLOSING:
            closing.append(_CLOSING[character])
        elif closing and character == closing[-1]:
            closing.pop()
        elif character == "," and not closing:
            pieces.append("")
            continue
        pieces[-1] += character
    return [piece.strip() for piece in pieces]


def _spread(word: str, piece: str) -> Iterator[str]:
    """The whole numbers of a range; anything else as it is."""
    spread = _RANGE.fullmatch(piece)
    if spread is None:
        yield piece
        return
    first, last = int(spread[1]), int(spread[2])
    if first > last:
        raise KpodError(f"got '{word}', where {piece} runs backwards\nallowed: {last}..{first}")
    yield from map(str, _whole_numbers(word, first, last))


def _whole_numbers(word: str, first: int, last: int) -> range:
    if last - first >= MAX_CELLS:
        raise KpodError(
            f"got '{word}', {last - first + 1:,} values\nallowed: up to {MAX_CELLS:,} runs in a sweep"
        )
    return range(first, last + 1)


def _short_names(names: Sequence[str]) -> list[str]:
    """What people call the axes: the last part, with the stage before it where several end alike."""
    last = Counter(name.rpartition(".")[2] for name in names)
    return [
        short
        if last[short := name.rpartition(".")[2]] == 1
        else name.removeprefix("stages.").replace(".with.", ".", 1)
        for name in names
    ]
