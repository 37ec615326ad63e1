"""Training sequences: questions and rationales as token ids with a weight for every target, joined by id.

The mask comes from the very ids that are trained: a completion's tokens are targets, a prompt's are not (PRACTICE 1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner import Question, Rationale, StageError
from kpod.stages._lm.completions import Completion, encode_completions
from kpod.stages._lm.prompts import Prompt, encode_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnTooLong = Literal["error", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training sequence.

    Args:
        example_id: id of the rationale; of the question where the target is the answer alone.
        question_id: id of the question.
        prompt_ids: tokens that are only read.
        completion: tokens that follow, with their parts and their spans in the rationale.
        is_target: one a completion token: whether the loss reads it.
        weights: one a completion token, >= 0: its share of the loss; counts only where `is_target`.
    """

    example_id: str
    question_id: str
    prompt_ids: tuple[int, ...]
    completion: Completion
    is_target: tuple[bool, ...]
    weights: tuple[float, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens of the whole sequence."""
        return len(self.prompt_ids) + len(self.completion.ids)

    @property
    def num_targets(self) -> int:
        """Tokens that the loss reads."""
        return sum(self.is_target)


class Encoded(NamedTuple):
    """What came of encoding.

    Args:
        examples: in the order of the rationales (of the questions where the target is the answer alone).
        dropped: ids of sequences longer than the limit, left out because the recipe says `on_too_long: drop`.
        without_rationale: ids of questions that have no rationale, so nothing is trained on them.
    """

    examples: tuple[Example, ...]
    dropped: tuple[str, ...]
    without_rationale: tuple[str, ...]


class _Pair(NamedTuple):
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
) -> Encoded:
    """Every rationale as a training sequence; one a question where the prompt asks for the answer alone.

    Both train on the same questions, those that have a rationale, so that arms compare fairly. The answer is the gold
    one where it is known, else the one the filter found in the rationale (KPOD 4).

    Args:
        tokenizer: the student's.
        questions: any; those without a rationale are counted.
        rationales: each for one of the questions.
        prompt: what is said around them.
        max_length: most tokens a sequence may have; never silently cut.
        on_too_long: what to do with longer ones.

    Raises:
        StageError: an unknown question, an answer or a target is missing, a sequence is too long, or nothing is left.
    """
    by_id = {question.id: question for question in questions}
    pairs = _pairs(by_id, rationales, prompt)
    examples = _encode(tokenizer, pairs, prompt)
    kept = tuple(example for example in examples if example.num_tokens <= max_length)
    too_long = [example for example in examples if example.num_tokens > max_length]
    if too_long and on_too_long == "error":
        raise _too_long(too_long, len(examples), max_length)
    if not kept:
        raise StageError(
            f"nothing to train on: {len(by_id)} questions, {len(rationales)} rationales,"
            f" {len(too_long)} longer than {max_length} tokens\n"
            "look at the counts that the filter noted, or raise max_length"
        )
    have = {rationale.question_id for rationale in rationales}
    return Encoded(
        kept,
        tuple(example.example_id for example in too_long),
        tuple(sorted(by_id.keys() - have)),
    )


def _pairs(
    by_id: Mapping[str, Question], rationales: Sequence[Rationale], prompt: Prompt
) -> list[_Pair]:
    """What is to be said to which question."""
    unknown = [rationale for rationale in rationales if rationale.question_id not in by_id]
    if unknown:
        raise StageError(
            f"{len(unknown)} of {len(rationales)} rationales belong to no question of this stage:"
            f" {', '.join(f'{row.id} (question {row.question_id})' for row in unknown[:3])}\n"
            "allowed: rationales made from the same questions; wire both from the same data stage with `in`"
        )
    if not prompt.has_rationale:
        first_of: dict[str, Rationale] = {}
        for rationale in rationales:
            first_of.setdefault(rationale.question_id, rationale)
        rationales = list(first_of.values())
    return [_pair(by_id[rationale.question_id], rationale, prompt) for rationale in rationales]


def _pair(question: Question, rationale: Rationale, prompt: Prompt) -> _Pair:
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
    return _Pair(example_id, question, text, answer or "")


def _encode(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[_Pair], prompt: Prompt
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
            is_target=(True,) * len(completion.ids),
            weights=(1.0,) * len(completion.ids),
        )
        for pair, ids, completion in zip(pairs, prompts, completions, strict=True)
    ]


def _too_long(too_long: Sequence[Example], num_all: int, max_length: int) -> StageError:
    longest = max(too_long, key=lambda example: example.num_tokens)
    return StageError(
        f"{len(too_long)} of {num_all} training sequences are longer than {max_length} tokens; the longest,"
        f" {longest.example_id}, has {longest.num_tokens}\n"
        "raise max_length (up to the model's context), or set on_too_long: drop to leave them out"
    )
