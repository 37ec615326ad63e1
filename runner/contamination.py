"""Test questions that a model was taught: the same question is an error, the same question with other numbers is counted.

Told as soon as both sets are known, which is before any teacher is asked (DESIGN 3: data stages come first). Data stages
see to their own splits; here the stages of a recipe are held against each other, and the examples that prompts show.
Nothing of a result depends on it: verdicts are remembered by content, so that a run with nothing to do reads no question.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner.canonical import digest_of
from kpod.runner.errors import StageError
from kpod.runner.record import Question

if TYPE_CHECKING:
    from kpod.runner.events import Events
    from kpod.runner.plan import Planner
    from kpod.runner.wiring import Wire

# Raised when a verdict means something else: what was remembered is worked out again.
_VERSION = 1
_NUM_EXAMPLES = 3
_MOST_CHARACTERS = 80
# A number is one mark, with its thousands and its decimals: "1,250.5" and "3" look the same.
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_LEARNERS = ("teacher.", "student.")


class Matched(NamedTuple):
    """Ids of test questions that training questions match.

    Args:
        exact: the same question.
        masked: the same text once numbers, case and white space do not count; those of `exact` are among them.
    """

    exact: frozenset[str]
    masked: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What two sets of questions have in common.

    Args:
        num_train, num_test: questions of each.
        num_exact: test questions that are training questions too.
        num_masked: test questions that are no training question, but have the text of one up to their numbers.
        examples: id and text of the first few of the exact ones.
    """

    num_train: int
    num_test: int
    num_exact: int
    num_masked: int
    examples: tuple[tuple[str, str], ...]


class Pair(NamedTuple):
    """Where training questions and where test questions come from."""

    train: Wire
    test: Wire


def folded_text(text: str) -> str:
    """The text in lower case, with one space for every stretch of white space."""
    return " ".join(text.casefold().split())


def masked_text(question: Question) -> str:
    """What is left of a question when its numbers, case and white space do not count: "ann has # apples"."""
    texts = (question.text, *(question.choices or ()))
    return "\n".join(_NUMBER.sub("#", folded_text(text)) for text in texts)


def match_questions(train: Iterable[Question], test: Iterable[Question]) -> Matched:
    """The test questions that training questions match; both are read once, and only `test` is held, as ids and hashes."""
    ids: set[str] = set()
    by_mask: dict[int, list[str]] = {}
    for question in test:
        ids.add(question.id)
        by_mask.setdefault(_mask(question), []).append(question.id)
    exact: set[str] = set()
    masked: set[str] = set()
    for question in train:
        if question.id in ids:
            exact.add(question.id)
        masked.update(by_mask.get(_mask(question), ()))
    return Matched(frozenset(exact), frozenset(masked | exact))


def _mask(question: Question) -> int:
    """64 bits: at a million questions the chance that any two meet by accident is about 3e-8."""
    digest = hashlib.blake2b(masked_text(question).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big")


def refuse_contamination(planner: Planner, events: Events, done: set[Pair]) -> None:
    """Hold the training questions against the test questions, of every pair whose contents are known by now.

    Args:
        planner: knows the recipe and the contents.
        events: hears of each pair, with the number of questions that differ only by numbers.
        done: pairs that were held against each other before; grows.

    Raises:
        StageError: a training question, or an example that a prompt shows, is a test question.
    """
    for pair in _pairs(planner):
        if pair in done or not all(planner.is_known(wire) for wire in pair):
            continue
        done.add(pair)
        found = _overlap(planner, pair)
        if found.num_exact:
            raise StageError(_taught(planner, pair, found))
        events.emit(
            "contamination_checked", train=str(pair.train), test=str(pair.test), num_train=found.num_train,
            num_test=found.num_test, num_masked=found.num_masked,
        )  # fmt: skip
    for wire in question_wires(planner, "test"):
        alone = Pair(wire, wire)
        if alone not in done and planner.is_known(wire):
            done.add(alone)
            _refuse_shown(planner, wire)


def _pairs(planner: Planner) -> list[Pair]:
    tests = question_wires(planner, "test")
    return [Pair(train, test) for train in question_wires(planner, "train") for test in tests]


def question_wires(planner: Planner, role: str) -> list[Wire]:
    """The outputs that are read as training questions by those who learn or teach, or as test questions by anyone."""
    known = planner.question_wires
    if role not in known:
        known[role] = _find_wires(planner, role)
    return known[role]


def _find_wires(planner: Planner, role: str) -> list[Wire]:
    found: dict[Wire, None] = {}
    for stage in planner.recipe.stages.values():
        if role == "test" or stage.uses.startswith(_LEARNERS):
            for name, wanted in stage.stage.inputs().items():
                if wanted.record is Question and wanted.role == role:
                    found.update(dict.fromkeys(stage.wires.get(name, ())))
    return list(found)


def question_readers(planner: Planner, wire: Wire, role: str) -> str:
    """The stages that read an output in this role: "rationales and standard"."""
    names = [
        stage.id
        for stage in planner.recipe.stages.values()
        for name, wanted in stage.stage.inputs().items()
        if wanted.role == role and wire in stage.wires.get(name, ())
    ]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def _overlap(planner: Planner, pair: Pair) -> Overlap:
    """What a pair has in common, remembered by the contents of both."""
    name = f"{_VERSION}|{_digest(planner, pair.train)}|{_digest(planner, pair.test)}"
    known = planner.store.memo.get("contamination", name)
    if known is not None:
        row: dict[str, Any] = json.loads(known)
        return Overlap(**{**row, "examples": tuple(map(tuple, row["examples"]))})
    found = _compared(planner, pair)
    planner.store.memo.put("contamination", name, json.dumps(asdict(found)))
    return found


def _compared(planner: Planner, pair: Pair) -> Overlap:
    sizes = [0, 0]

    def counted(wire: Wire, side: int) -> Iterator[Question]:
        for question in _questions(planner, wire):
            sizes[side] += 1
            yield question

    matched = match_questions(counted(pair.train, 0), counted(pair.test, 1))
    return Overlap(
        num_train=sizes[0],
        num_test=sizes[1],
        num_exact=len(matched.exact),
        num_masked=len(matched.masked - matched.exact),
        examples=_first(_questions(planner, pair.test), matched.exact),
    )


def _first(questions: Iterable[Question], ids: Set[str]) -> tuple[tuple[str, str], ...]:
    """Id and text of the first few questions with these ids."""
    found: list[tuple[str, str]] = []
    if ids:
        for question in questions:
            if question.id in ids:
                found.append((question.id, _shortened(question.text)))
                if len(found) == _NUM_EXAMPLES:
                    break
    return tuple(found)


def _questions(planner: Planner, wire: Wire) -> Iterator[Question]:
    from kpod.runner.running import read_records

    for content in planner.known[wire].values():
        yield from read_records(content.entry.path(content.output), Question)


def _digest(planner: Planner, wire: Wire) -> str:
    """Content digest of an output: of its one unit, or over those of all."""
    return digest_of([content.digest for content in planner.known[wire].values()])


def _refuse_shown(planner: Planner, wire: Wire) -> None:
    """Hold the examples that stages show a model against the test questions of an output."""
    shown = {
        folded_text(text): (stage.id, text)
        for stage in planner.recipe.stages.values()
        for text in _shown(stage.stage, stage.config)
    }
    if not shown:
        return
    name = f"{_VERSION}|{digest_of(sorted(shown))}|{_digest(planner, wire)}"
    if planner.store.memo.get("contamination", name) is not None:
        return
    for question in _questions(planner, wire):
        stage_id, text = _same(question, shown)
        if stage_id:
            raise StageError(
                f"the prompt of {stage_id} shows an example that is a test question of {wire}, read by"
                f" {question_readers(planner, wire, 'test')}:\n  {question.id} {_shortened(text)}\n"
                "allowed: examples that are no test question (case and white space do not count)\n"
                f"write another example in the prompt of {stage_id}, or take the question out of {wire.stage}"
            )
    planner.store.memo.put("contamination", name, "none")


def _same(question: Question, shown: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Who shows this question, and in which words; two empty texts where nobody does."""
    text = folded_text(question.text)
    if text in shown:
        return shown[text]
    if question.choices is not None:  # an example of a choice has its choices written below it
        for known, found in shown.items():
            if known.startswith(text) and all(folded_text(each) in known for each in question.choices):  # fmt: skip
                return found
    return "", ""


def _shown(stage: type, config: object) -> Sequence[str]:
    """The questions of the examples that a stage shows a model; stages without examples need not say so."""
    told = getattr(stage, "shown", None)
    return () if told is None else tuple(told(config))


def _taught(planner: Planner, pair: Pair, found: Overlap) -> str:
    stages = planner.recipe.stages
    lines = "".join(f"  {id_} {text}\n" for id_, text in found.examples)
    more = found.num_exact - len(found.examples)
    return (
        f"{found.num_exact:,} of the {found.num_test:,} test questions of {pair.test}"
        f" ({stages[pair.test.stage].uses}, read by {question_readers(planner, pair.test, 'test')}) are training questions of"
        f" {pair.train} ({stages[pair.train.stage].uses}, read by {question_readers(planner, pair.train, 'train')}):\n"
        f"{lines}{f'  and {more:,} more{chr(10)}' if more else ''}"
        "allowed: no question in both; a score on questions that were taught says nothing\n"
        f"read another split, set `limit` in {pair.train.stage} or {pair.test.stage}, or take the rows out of one of their"
        " files"
    )


def _shortened(text: str) -> str:
    return repr(text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…")
