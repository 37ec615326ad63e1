"""Training sequences from records that are streamed, joined by id on disk: memory does not grow with their number.

What comes out is what `encode_examples` makes of the same records, in the same order, with the same errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Curriculum, Question, Rationale, TokenWeights
from kpod.stages._lm.curricula import CURRICULUM_ROWS, check_curriculum, shelved_curriculum
from kpod.stages._lm.encoding import (
    NUM_NAMED,
    Encoded,
    Example,
    OnTooLong,
    Pair,
    belongs_nowhere,
    examples_of,
    pair_of,
    shape,
)
from kpod.stages._lm.example_file import ExampleFile
from kpod.stages._lm.joining import check_shelved
from kpod.stages._lm.length_limit import Limit
from kpod.stages._lm.shelf import Shelf
from kpod.stages._lm.token_weights import WEIGHT_ROWS, check_weights, shelved_weights
from kpod.stages._lm.unknown_tokens import Unknown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.prompts import Prompt

# How many sequences are encoded between two words about it: some seconds, and more than a small training has.
TOLD_EVERY = 4096


class Streams(NamedTuple):
    """The records of a training; each call reads them from the beginning.

    Args:
        questions: any; those without a rationale are counted.
        rationales: each for one of the questions; their order is that of the sequences.
        weights: of every rationale, in any order; None: every token weighs 1.
        curriculum: of every rationale, in any order; None: nothing is given.
    """

    questions: Callable[[], Iterable[Question]]
    rationales: Callable[[], Iterable[Rationale]]
    weights: Callable[[], Iterable[TokenWeights]] | None = None
    curriculum: Callable[[], Iterable[Curriculum]] | None = None


class _Shelves(NamedTuple):
    questions: Shelf[Question]
    weights: Shelf[TokenWeights] | None
    curriculum: Shelf[Curriculum] | None


def stream_examples(
    tokenizer: PreTrainedTokenizerBase,
    streams: Streams,
    *,
    prompt: Prompt,
    max_length: int,
    folder: Path,
    on_too_long: OnTooLong = "error",
    has_encoder: bool = False,
    told: Callable[[int, int], None] = lambda _done, _total: None,
) -> Encoded:
    """Every rationale as a training sequence in a file; one a question where the prompt asks for the answer alone.

    Args:
        tokenizer: the student's.
        streams: the records.
        prompt: what is said around them.
        max_length: most tokens a sequence (either side of an encoder-decoder) may have; never silently cut.
        folder: on the disk that is to hold the file, which has no name there.
        on_too_long: what to do with longer ones.
        has_encoder: whether the student is an encoder-decoder.
        told: called now and then with the number of rationales read, and that of all.

    Raises:
        StageError: an unknown question; an answer, a target, weights or a curriculum is missing or does not fit; a
            sequence is too long; or nothing is left.
    """
    shelves = _shelved(streams, folder)
    num_rationales = _check_ids(shelves, streams.rationales())
    limit = Limit(max_length, on_too_long=on_too_long, has_encoder=has_encoder)

    def read() -> Iterator[Rationale]:
        for done, rationale in enumerate(streams.rationales(), start=1):
            if done % TOLD_EVERY == 0:
                told(done, num_rationales)
            yield rationale

    def shaped(example: Example, pair: Pair) -> Example:
        return _shaped(example, pair.rationale, shelves)

    pairs = _pairs(shelves.questions, read(), prompt)
    kept = filter(limit.keeps, examples_of(tokenizer, pairs, prompt, shaped))
    unknown = Unknown(tokenizer)
    examples = ExampleFile(unknown.passed(kept), folder=folder)
    limit.check(num_questions=len(shelves.questions), num_rationales=num_rationales)
    return Encoded(examples, limit.dropped, tuple(sorted(shelves.questions.unmarked())), unknown)


def _shelved(streams: Streams, folder: Path) -> _Shelves:
    """All but the rationales, on disk and by id; of equal ids the last question counts."""
    questions = Shelf(Question, folder)
    for question in streams.questions():
        questions.replace(question.id, question)
    weights = curriculum = None
    if streams.weights is not None:
        weights = shelved_weights(streams.weights(), folder=folder)
    if streams.curriculum is not None:
        curriculum = shelved_curriculum(streams.curriculum(), folder=folder)
    return _Shelves(questions, weights, curriculum)


def _check_ids(shelves: _Shelves, rationales: Iterable[Rationale]) -> int:
    """The number of rationales; raises where one has no question, or not all that is wired."""
    first: list[Rationale] = []
    num_unknown = 0

    def looked_up() -> Iterator[Rationale]:
        nonlocal num_unknown
        for rationale in rationales:
            if rationale.question_id not in shelves.questions:
                num_unknown += 1
                if num_unknown <= NUM_NAMED:
                    first.append(rationale)
            yield rationale

    wired = {WEIGHT_ROWS: shelves.weights, CURRICULUM_ROWS: shelves.curriculum}
    num_all = check_shelved(
        {what: shelf for what, shelf in wired.items() if shelf is not None}, looked_up()
    )
    if num_unknown:
        raise belongs_nowhere(first, num_unknown=num_unknown, num_all=num_all)
    return num_all


def _pairs(
    questions: Shelf[Question], rationales: Iterable[Rationale], prompt: Prompt
) -> Iterator[Pair]:
    """What is to be said to which question, which is marked."""
    for rationale in rationales:
        is_first = questions.mark(rationale.question_id)
        if is_first or prompt.has_rationale:
            yield pair_of(questions.get(rationale.question_id), rationale, prompt)


def _shaped(example: Example, text: str, shelves: _Shelves) -> Example:
    """The example with its rationale's weights and cuts, checked."""
    weights = curriculum = None
    if shelves.weights is not None:
        weights = shelves.weights.get(example.example_id)
        check_weights(weights, text)
    if shelves.curriculum is not None:
        curriculum = shelves.curriculum.get(example.example_id)
        check_curriculum(curriculum, text)
    return shape(example, text, weights=weights, curriculum=curriculum)
