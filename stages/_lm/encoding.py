"""Training sequences: questions and rationales as token ids, with a weight and a first target, joined by id.

The mask comes from the very ids that are trained: a completion's tokens are targets, a prompt's are not (PRACTICE 1).
Weights and cuts stay at the offsets of the whole rationale, whatever an epoch trains of it (KPOD 9, statement 23).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner import Curriculum, Question, Rationale, StageError, TokenWeights
from kpod.stages._lm.completions import Completion, encode_completions
from kpod.stages._lm.curricula import first_targets
from kpod.stages._lm.length_limit import Limit
from kpod.stages._lm.passages import Passage
from kpod.stages._lm.prompts import Prompt, encode_prompts
from kpod.stages._lm.token_weights import project
from kpod.stages._lm.unknown_tokens import Unknown

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnTooLong = Literal["error", "drop"]
# Tokenizers are fast on many texts at once; more than so many only cost memory.
_CHUNK = 256
# So many ids stand in a message; more would only hide what it says.
NUM_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training sequence.

    Args:
        example_id: id of the rationale; of the question where the target is the answer alone.
        question_id: id of the question.
        prompt_ids: tokens that are only read.
        completion: tokens that follow, with their parts and their spans in the rationale.
        weights: one a completion token, >= 0: its share of the loss; 1 outside the rationale.
        first_targets: at which completion token the targets begin at epoch 1, 2, …; 0 at every later epoch.
    """

    example_id: str
    question_id: str
    prompt_ids: tuple[int, ...]
    completion: Completion
    weights: tuple[float, ...]
    first_targets: tuple[int, ...] = ()

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole sequence."""
        return len(self.prompt_ids) + len(self.completion.ids)

    def first_target(self, epoch: int) -> int:
        """The completion token at which the targets of an epoch (from 1) begin."""
        return self.first_targets[epoch - 1] if epoch <= len(self.first_targets) else 0

    def num_targets(self, epoch: int) -> int:
        """Tokens that the loss of an epoch (from 1) reads."""
        return len(self.completion.ids) - self.first_target(epoch)

    def passage(self, epoch: int) -> Passage:
        """What an epoch (from 1) trains: the given steps are context, the rest are targets."""
        first = self.first_target(epoch)
        ids = self.completion.ids
        return Passage((*self.prompt_ids, *ids[:first]), ids[first:], self.weights[first:])

    def sides(self, *, has_encoder: bool) -> tuple[int, int]:
        """Most tokens that an encoder (0: there is none) and a decoder may be given of this sequence.

        The encoder's side holds the whole rationale, as a curriculum may give it, with and without one: arms that are
        compared must leave out the same sequences.
        """
        if not has_encoder:
            return 0, self.num_tokens
        spans = self.completion.spans
        given = max((at + 1 for at, span in enumerate(spans) if span is not None), default=0)
        return len(self.prompt_ids) + given + 1, len(self.completion.ids)


class Encoded(NamedTuple):
    """What came of encoding.

    Args:
        examples: in the order of the rationales (of the questions where the target is the answer alone).
        dropped: ids of sequences longer than the limit, left out because the recipe says `on_too_long: drop`.
        without_rationale: ids of questions that have no rationale, so nothing is trained on them.
        unknown: how many of all tokens stand for text that the tokenizer does not know.
    """

    examples: Sequence[Example]
    dropped: tuple[str, ...]
    without_rationale: tuple[str, ...]
    unknown: Unknown


class Pair(NamedTuple):
    """What is to be said to which question.

    Args:
        example_id: of the sequence that it becomes.
        question: what is asked.
        rationale: the text to be said; empty where the prompt has none.
        answer: to be said; empty where there is none.
    """

    example_id: str
    question: Question
    rationale: str
    answer: str


def encode_examples(
    tokenizer: PreTrainedTokenizerBase,
    *,
    questions: Iterable[Question],
    rationales: Sequence[Rationale],
    prompt: Prompt,
    max_length: int,
    on_too_long: OnTooLong = "error",
    has_encoder: bool = False,
    weights: Mapping[str, TokenWeights] | None = None,
    curriculum: Mapping[str, Curriculum] | None = None,
) -> Encoded:
    """Every rationale as a training sequence; one a question where the prompt asks for the answer alone.

    Both train on the same questions, those that have a rationale, so that arms compare fairly. The answer is the gold
    one where it is known, else the one the filter found in the rationale (KPOD 4).

    Args:
        tokenizer: the student's.
        questions: any; those without a rationale are counted.
        rationales: each for one of the questions.
        prompt: what is said around them.
        max_length: most tokens a sequence (either side of an encoder-decoder) may have; never silently cut.
        on_too_long: what to do with longer ones.
        has_encoder: whether the student is an encoder-decoder.
        weights: of every rationale, checked against its text; None: every token weighs 1.
        curriculum: of every rationale, checked against its text; None: nothing is given.

    Raises:
        StageError: an unknown question, an answer or a target is missing, a sequence is too long, or nothing is left.
    """
    by_id = {question.id: question for question in questions}
    pairs = _pairs(by_id, rationales, prompt)

    def shaped(example: Example, pair: Pair) -> Example:
        return shape(
            example,
            pair.rationale,
            weights=None if weights is None else weights[example.example_id],
            curriculum=None if curriculum is None else curriculum[example.example_id],
        )

    limit = Limit(max_length, on_too_long=on_too_long, has_encoder=has_encoder)
    unknown = Unknown(tokenizer)
    kept = tuple(unknown.passed(filter(limit.keeps, examples_of(tokenizer, pairs, prompt, shaped))))
    limit.check(num_questions=len(by_id), num_rationales=len(rationales))
    have = {rationale.question_id for rationale in rationales}
    return Encoded(kept, limit.dropped, tuple(sorted(by_id.keys() - have)), unknown)


def _pairs(
    by_id: Mapping[str, Question], rationales: Sequence[Rationale], prompt: Prompt
) -> list[Pair]:
    """What is to be said to which question."""
    unknown = [rationale for rationale in rationales if rationale.question_id not in by_id]
    if unknown:
        raise belongs_nowhere(
            unknown[:NUM_NAMED], num_unknown=len(unknown), num_all=len(rationales)
        )
    if not prompt.has_rationale:
        first_of: dict[str, Rationale] = {}
        for rationale in rationales:
            first_of.setdefault(rationale.question_id, rationale)
        rationales = list(first_of.values())
    return [pair_of(by_id[rationale.question_id], rationale, prompt) for rationale in rationales]


def belongs_nowhere(first: Sequence[Rationale], *, num_unknown: int, num_all: int) -> StageError:
    """What is said of rationales of unknown questions; the first few are named."""
    return StageError(
        f"{num_unknown} of {num_all} rationales belong to no question of this stage:"
        f" {', '.join(f'{row.id} (question {row.question_id})' for row in first)}\n"
        "allowed: rationales made from the same questions; wire both from the same data stage with `in`"
    )


def pair_of(question: Question, rationale: Rationale, prompt: Prompt) -> Pair:
    """What is to be said to a question.

    Raises:
        StageError: an answer or a target is missing.
    """
    answer = question.answer if question.answer is not None else rationale.answer
    example_id = rationale.id if prompt.has_rationale else question.id
    if answer is None and prompt.has_answer:
        raise StageError(
            f"rationale {rationale.id}: question {question.id} has no gold answer, and none was found in the"
            " rationale, but the prompt asks for one\n"
            "drop it with filter.verified, or use a custom prompt without {answer}"
        )
    text = rationale.text if prompt.has_rationale else ""
    if not text.strip() and not (prompt.has_answer and (answer or "").strip()):
        raise StageError(
            f"example {example_id}: its text is empty, so there is no target to learn\n"
            "drop it with filter.verified"
        )
    return Pair(example_id, question, text, answer or "")


def examples_of(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Iterable[Pair],
    prompt: Prompt,
    shaped: Callable[[Example, Pair], Example],
) -> Iterator[Example]:
    """The training sequences of pairs, in order, encoded some hundreds at a time.

    Args:
        tokenizer: the student's.
        pairs: what is to be said to which question.
        prompt: what is said around them.
        shaped: gives a sequence its weights and first targets.
    """
    stream = iter(pairs)
    while chunk := list(islice(stream, _CHUNK)):
        for example, pair in zip(_encode(tokenizer, chunk, prompt), chunk, strict=True):
            yield shaped(example, pair)


def _encode(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], prompt: Prompt
) -> list[Example]:
    prompts = encode_prompts(tokenizer, prompt, [pair.question for pair in pairs])
    completions = encode_completions(
        tokenizer, prompt, [(pair.rationale, pair.answer) for pair in pairs]
    )
    return [
        Example(
            example_id=pair.example_id,
            question_id=pair.question.id,
            prompt_ids=tuple(ids),
            completion=completion,
            weights=(1.0,) * len(completion.ids),
        )
        for pair, ids, completion in zip(pairs, prompts, completions, strict=True)
    ]


def shape(
    example: Example, text: str, *, weights: TokenWeights | None, curriculum: Curriculum | None
) -> Example:
    """The example with its rationale's weights and cuts, where there are any.

    Args:
        example: as it was encoded.
        text: the rationale's.
        weights: checked against the text.
        curriculum: checked against the text.
    """
    spans = example.completion.spans
    if weights is not None:
        example = replace(example, weights=project(weights, text, spans))
    if curriculum is not None:
        example = replace(example, first_targets=first_targets(curriculum.cut, text, spans))
    return example
