"""Rationales as the student will read them, with what is known of each token: its place in the text and its weight."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import Question, Rationale, StageError, TokenWeights
from kpod.stages._lm.completions import Completion, encode_completions
from kpod.stages._lm.passages import Passage
from kpod.stages._lm.prompts import Prompt, encode_prompts
from kpod.stages._lm.token_weights import project

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.token_weights import Span


class Scored(NamedTuple):
    """One rationale behind its question.

    Args:
        rationale_id: whose it is.
        text: of the rationale.
        passage: the question's prompt as context, the completion up to the rationale's last token as targets.
        spans: one a target: the characters of the text that it covers; None for one of the prompt's own words.
    """

    rationale_id: str
    text: str
    passage: Passage
    spans: tuple[Span | None, ...]


def encode_scored(
    tokenizer: PreTrainedTokenizerBase,
    *,
    questions: Iterable[Question],
    rationales: Sequence[Rationale],
    prompt: Prompt,
    weights: Mapping[str, TokenWeights] | None,
) -> list[Scored]:
    """Every rationale behind its question, in order; the ids are those that a student with this prompt trains on.

    Args:
        tokenizer: the student's.
        questions: any that have the rationales' ids among them.
        rationales: to measure.
        prompt: has a rationale.
        weights: of every rationale, checked against its text; None: every token weighs 1.

    Raises:
        StageError: a rationale's question is not there, or a rationale has no token.
    """
    by_id = {question.id: question for question in questions}
    _check_known(rationales, by_id)
    asked = [by_id[row.question_id] for row in rationales]
    prompts = encode_prompts(tokenizer, prompt, asked)
    # The answer is said behind the rationale, so that a token at their border is the one that is trained.
    pairs = [
        (row.text, question.answer or row.answer or "")
        for row, question in zip(rationales, asked, strict=True)
    ]
    completions = encode_completions(tokenizer, prompt, pairs)
    return [
        _scored(row, ids, completion, None if weights is None else weights[row.id])
        for row, ids, completion in zip(rationales, prompts, completions, strict=True)
    ]


def _check_known(rationales: Sequence[Rationale], by_id: Mapping[str, Question]) -> None:
    unknown = [row for row in rationales if row.question_id not in by_id]
    if unknown:
        named = ", ".join(f"{row.id} (question {row.question_id})" for row in unknown[:3])
        raise StageError(
            f"{len(unknown)} of {len(rationales)} rationales belong to no question of this stage: {named}\n"
            "allowed: rationales made from the same questions; wire both from the same data stage with `in`"
        )


def _scored(
    rationale: Rationale,
    prompt_ids: list[int],
    completion: Completion,
    weights: TokenWeights | None,
) -> Scored:
    last = max((at for at, span in enumerate(completion.spans) if span is not None), default=None)
    if last is None:
        raise StageError(
            f"rationale {rationale.id}: the model's tokenizer makes no token of its text {rationale.text[:40]!r},"
            " so it has no difficulty\ndrop it with filter.verified, or use another model"
        )
    ids, spans = completion.ids[: last + 1], completion.spans[: last + 1]
    shares = (1.0,) * len(ids) if weights is None else project(weights, rationale.text, spans)
    return Scored(rationale.id, rationale.text, Passage(tuple(prompt_ids), ids, shares), spans)


def check_lengths(
    scored: Sequence[Scored], *, limits: tuple[int | None, int | None], has_encoder: bool
) -> None:
    """Raise a StageError that names the rationales with more tokens than the model may read.

    Args:
        scored: rationales behind their questions.
        limits: the setting's and the model's; None: there is none.
        has_encoder: whether the question (and its end token) has an encoder of its own.
    """
    known = [limit for limit in limits if limit is not None]
    if not known:
        return
    limit = min(known)
    lengths = {row.rationale_id: _num_read(row.passage, has_encoder=has_encoder) for row in scored}
    too_long = [name for name, length in lengths.items() if length > limit]
    if too_long:
        longest = max(too_long, key=lambda name: lengths[name])
        is_setting = limits[0] == limit
        raise StageError(
            f"{len(too_long)} of {len(scored)} rationales are longer than {limit} tokens with their questions;"
            f" the longest, {longest}, has {lengths[longest]}\n"
            + ("raise max_length" if is_setting else "use a model with a longer context")
            + ", or drop them with filter.verified (max_chars): none is left out here, the curriculum needs them all"
        )


def _num_read(passage: Passage, *, has_encoder: bool) -> int:
    if has_encoder:
        return max(len(passage.context_ids) + 1, len(passage.target_ids))
    return passage.num_tokens
