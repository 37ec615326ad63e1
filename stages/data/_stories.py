"""Stories drawn at random: a chain of moves whose steps each reuse the result of the one before.

All numbers are whole and from 2 to 99 (equations: 0 to 99), so that things stay plural; a problem that shows its answer
is drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from kpod.stages.data._phrases import (
    DISTRACTORS,
    EQUATION,
    EQUATION_WORKED,
    FAMILIES,
    FILLERS,
    MAX_NUMBER,
    NAMES,
    THEN,
    THINGS,
    Family,
    Move,
    Operand,
    Operator,
    split_words,
)

_CHANGES = range(2, 10)
_FACTORS = range(2, 10)
_BUDGETS = range(10, 100, 10)
_STARTS = range(2, 81)
_OPERANDS: Mapping[Operand, Sequence[int]] = {
    "change": _CHANGES, "two": (2,), "factor": _FACTORS, "divisor": _FACTORS, "budget": _BUDGETS,
}  # fmt: skip
_OPERATORS: tuple[Operator, ...] = ("+", "-", "*", "/")


class Problem(NamedTuple):
    """A problem with its worked solution and its answer, in [0, 99]."""

    text: str
    solution: str
    answer: int


@dataclass(slots=True)
class _Story:
    """A story as it is told; `people[turn]` is who it is about."""

    people: list[str]
    things: str
    value: int
    sentences: list[str]
    steps: list[str]
    turn: int = 0
    ask: str = ""


class _Pair(NamedTuple):
    """The two numbers of a step, and the one that its sentence tells."""

    x: int
    y: int
    told: int


def equation(stream: random.Random) -> Problem:
    """A bare equation such as `5 + 3 ?`, worked as `5 + 3 = 8.`; of the numbers that stories have, and 0 and 1."""
    while True:
        operator = stream.choice(_OPERATORS)
        x = stream.randrange(MAX_NUMBER + 1)
        y = stream.choice(_FACTORS) if operator in "*/" else stream.randrange(_CHANGES.stop)
        if operator == "-" and stream.randrange(3) == 0:
            x, y = stream.choice(_BUDGETS), x
        if not _is_exact(operator, x, y):
            continue
        z = _result(operator, x, y)
        if 0 <= z <= MAX_NUMBER and z not in (x, y):
            text = EQUATION.format(x=x, op=operator, y=y)
            return Problem(text, EQUATION_WORKED.format(x=x, op=operator, y=y, z=z), z)


def story(
    stream: random.Random, *, num_steps: int, has_distractor: bool, has_fillers: bool
) -> Problem:
    """A story of so many steps.

    Args:
        stream: where chance comes from.
        num_steps: >= 1.
        has_distractor: add a sentence with a number that has no bearing.
        has_fillers: add one or two sentences without numbers.
    """
    while True:
        told = _chain(stream, num_steps)
        if told is None:
            continue
        if has_distractor:
            _insert(stream, told, stream.choice(DISTRACTORS))
        for _ in range(stream.randrange(1, 3) if has_fillers else 0):
            _insert(stream, told, stream.choice(FILLERS))
        text = " ".join([*told.sentences, told.ask])
        if str(told.value) not in split_words(text):
            return Problem(text, " ".join(told.steps), told.value)


def _chain(stream: random.Random, num_steps: int) -> _Story | None:
    """A story without extras, or None where chance led into a dead end."""
    family = stream.choice(FAMILIES)
    told = _opened(stream, family)
    if told is None:
        return None
    while len(told.steps) < num_steps:
        is_last = len(told.steps) == num_steps - 1
        moves = [move for move in family.moves if is_last or not move.ends]
        if not _make(stream, told, stream.choice(moves)):
            return None
    return told


def _opened(stream: random.Random, family: Family) -> _Story | None:
    people = list(NAMES)
    stream.shuffle(people)
    start = stream.choice(_FACTORS if family.first else _STARTS)
    told = _Story(people=people, things=stream.choice(THINGS), value=start, sentences=[], steps=[])
    pair = _Pair(start, 0, 0)
    if family.first:
        drawn = _drawn(stream, told, family.first)
        if drawn is None:
            return None
        pair = drawn
    told.sentences.append(_worded(family.opening, told, x=start, k=pair.told))
    if family.first:
        _work(told, family.first, pair)
    return told


def _make(stream: random.Random, told: _Story, move: Move) -> bool:
    """Tell and work a move; False where its numbers do not fit."""
    pair = _drawn(stream, told, move)
    if pair is None:
        return False
    begins = f"{THEN} " if move.is_action and told.steps and stream.randrange(2) else ""
    told.sentences.append(begins + _worded(move.told, told, k=pair.told))
    _work(told, move, pair)
    return True


def _work(told: _Story, move: Move, pair: _Pair) -> None:
    """Add the worked step, and let the story go on from its result."""
    result = _result(move.operator, pair.x, pair.y)
    told.turn += move.moves_on
    told.value = result
    told.steps.append(_worded(move.worked, told, x=pair.x, op=move.operator, y=pair.y, z=result))
    told.ask = _worded(move.ask, told)


def _drawn(stream: random.Random, told: _Story, move: Move) -> _Pair | None:
    """Numbers for a move that keep every value from 2 to 99, or None where there are none."""
    x = told.value
    if move.operand == "budget":
        pairs = [_Pair(y, x, y) for y in _BUDGETS]
    else:
        pairs = [_Pair(x, y, y) for y in _OPERANDS[move.operand]]
    fitting = [pair for pair in pairs if _is_exact(move.operator, pair.x, pair.y)]
    fitting = [
        pair for pair in fitting if 2 <= _result(move.operator, pair.x, pair.y) <= MAX_NUMBER
    ]
    return stream.choice(fitting) if fitting else None


def _is_exact(operator: Operator, x: int, y: int) -> bool:
    return operator != "/" or (y != 0 and x % y == 0)


def _result(operator: Operator, x: int, y: int) -> int:
    if operator == "+":
        return x + y
    if operator == "-":
        return x - y
    return x * y if operator == "*" else x // y


def _insert(stream: random.Random, told: _Story, sentence: str) -> None:
    """Put a sentence about someone whom the story does not count anywhere before the question."""
    others = [things for things in THINGS if things != told.things]
    where = stream.randrange(len(told.sentences) + 1)
    person = told.people[0] if "{a}" in sentence else told.people[-1]
    worded = sentence.format(
        a=person, b=person, o=told.things, p=stream.choice(others),
        k=stream.choice(_STARTS),
    )  # fmt: skip
    told.sentences.insert(where, worded)


def _worded(template: str, told: _Story, **numbers: int | str) -> str:
    return template.format(
        a=told.people[told.turn],
        b=told.people[told.turn + 1],
        c=told.people[-2],
        d=told.people[-3],
        o=told.things,
        **numbers,
    )
