"""What mask learning reads of a rationale: its tokens as the student trains on them, and what surrounds them for the predictor.

The predictor reads question, connective and answer through its own tokenizer; the rationale reaches it as the student's
tokens, because a weight belongs to a token of the student (KPOD Sec. 3.3 and App. A).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Question, Rationale, StageError
from kpod.stages._lm.completions import Completion, encode_completions, encode_rationales
from kpod.stages._lm.prompts import PromptConfig, encode_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One rationale with its question and answer.

    Args:
        id: of the rationale.
        text: of the rationale.
        token_ids: its tokens under the student's tokenizer, at least one.
        spans: the characters (start, end) of the text that each covers.
        question_ids: the predictor's tokens of question and zero-shot prompt.
        tail_ids: the predictor's tokens of "Therefore, the answer is" and the answer.
        num_answer: how many of these, at their end, are the answer's; at least one, fewer than all.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    question_ids: tuple[int, ...]
    tail_ids: tuple[int, ...]
    num_answer: int

    @property
    def num_tokens(self) -> int:
        """Tokens of the rationale."""
        return len(self.token_ids)

    @property
    def num_read(self) -> int:
        """The longest sequence that the predictor reads for it: question, rationale, connective and answer."""
        return len(self.question_ids) + len(self.token_ids) + len(self.tail_ids)

    @property
    def answer_ids(self) -> tuple[int, ...]:
        """The tokens to predict."""
        return self.tail_ids[-self.num_answer :]


class _Asked(NamedTuple):
    question: Question
    rationale: Rationale
    answer: str


def encode_items(
    *,
    student: PreTrainedTokenizerBase,
    predictor: PreTrainedTokenizerBase,
    questions: Sequence[Question],
    rationales: Sequence[Rationale],
    context_tokens: int | None,
) -> list[Item]:
    """Every rationale as the weighter and the predictor read it, in order.

    Args:
        student: the student's tokenizer, for the rationale.
        predictor: the predictor's, for question, connective and answer.
        questions: any, each rationale's among them.
        rationales: at least one.
        context_tokens: the longest sequence that the predictor takes; None where it does not say.

    Raises:
        StageError: no rationales, an unknown question, no answer, a rationale without a token, or one too long.
    """
    if not rationales:
        raise StageError("there are no rationales to weigh; look at the counts the filter noted")
    by_id = {question.id: question for question in questions}
    asked = [_asked(by_id, rationale) for rationale in rationales]
    tokens = encode_rationales(student, [row.text for row in rationales])
    prompt = PromptConfig().resolve()
    heads = encode_prompts(predictor, prompt, [row.question for row in asked])
    tails = encode_completions(
        predictor, prompt, [(row.rationale.text, row.answer) for row in asked]
    )
    items = [
        _item(row, token_ids, spans, head, tail)
        for row, (token_ids, spans), head, tail in zip(asked, tokens, heads, tails, strict=True)
    ]
    _check_lengths(items, context_tokens)
    return items


def _asked(by_id: dict[str, Question], rationale: Rationale) -> _Asked:
    """The rationale with its question and the answer to predict: gold where it is known, else the teacher's (KPOD 4)."""
    question = by_id.get(rationale.question_id)
    if question is None:
        raise StageError(
            f"rationale {rationale.id} belongs to question {rationale.question_id}, which this stage was not given\n"
            "wire questions and rationales from the same data stage with `in`"
        )
    answer = question.answer if question.answer is not None else rationale.answer
    if answer is None or not answer.strip():
        raise StageError(
            f"rationale {rationale.id}: question {question.id} has no gold answer, and none was found in the"
            " rationale, so there is nothing that its tokens could help to predict\n"
            "drop it with filter.verified, or use questions with answers"
        )
    return _Asked(question, rationale, answer)


def _item(
    row: _Asked,
    token_ids: tuple[int, ...],
    spans: tuple[tuple[int, int], ...],
    head: list[int],
    tail: Completion,
) -> Item:
    if not token_ids:
        raise StageError(
            f"rationale {row.rationale.id}: its text {row.rationale.text[:20]!r} has no token to weigh\n"
            "drop it with filter.verified"
        )
    last = max((at for at, part in enumerate(tail.parts) if part == "rationale"), default=-1)
    num_answer = tail.parts.count("answer")
    tail_ids = tail.ids[last + 1 : -1]  # without the end token: Eq. 5 sums over the answer's tokens
    assert 0 < num_answer < len(tail_ids), "the template puts a connective before the answer"
    return Item(
        id=row.rationale.id, text=row.rationale.text, token_ids=token_ids, spans=spans, question_ids=tuple(head),
        tail_ids=tail_ids, num_answer=num_answer,
    )  # fmt: skip


def _check_lengths(items: Sequence[Item], context_tokens: int | None) -> None:
    """Raise a StageError where question, rationale and answer do not fit; nothing is ever cut in silence."""
    if context_tokens is None:
        return
    too_long = [item for item in items if item.num_read > context_tokens]
    if too_long:
        named = ", ".join(f"{item.id} ({item.num_read} tokens)" for item in too_long[:3])
        raise StageError(
            f"{len(too_long)} of {len(items)} rationales, with question and answer, are longer than the"
            f" {context_tokens} tokens that the predictor takes: {named}\n"
            "drop them with filter.verified (max_tokens), or wire a predictor with a longer context"
        )
