"""What a student is to say, token by token: rationale, answer and one end token, tokenised apart from the prompt.

Each token keeps the characters of the rationale that it covers, so that weights by character span reach any tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner import StageError
from kpod.stages._lm.prompts import SLOT, Prompt, PromptConfig, render_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Part = Literal["rationale", "answer", "template", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What a student is to say, token by token.

    Args:
        ids: token ids; the last is the end token, which stands nowhere else.
        parts: what each token belongs to; one that touches both rationale or answer and template counts as theirs.
        spans: the characters (start, end) of the rationale's text that each token covers; None outside it.
    """

    ids: tuple[int, ...]
    parts: tuple[Part, ...]
    spans: tuple[tuple[int, int] | None, ...]


def encode_completion(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, *, rationale: str, answer: str
) -> Completion:
    """Token ids of what the student is to say, tokenised apart from the prompt, with one end token.

    Raises:
        StageError: the tokenizer gives no character offsets, or has no end token.
    """
    return encode_completions(tokenizer, prompt, [(rationale, answer)])[0]


def encode_completions(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, pairs: Sequence[tuple[str, str]]
) -> list[Completion]:
    """Completions of many (rationale, answer), in order. Errors as `encode_completion`."""
    if not pairs:
        return []
    if not getattr(tokenizer, "is_fast", False):
        raise StageError(
            f"the tokenizer {type(tokenizer).__name__} gives no character offsets, which targets need\n"
            "use a model folder that has a tokenizer.json"
        )
    end = end_token_id(tokenizer, prompt)
    _, rest = prompt.split()
    if prompt.format == "chat" or _writes_leading_space(tokenizer):
        rest = rest.lstrip(" ")
    filled = [_fill(rest, rationale, answer) for rationale, answer in pairs]
    encoded = tokenizer(
        [text for text, _ in filled],
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,
    )
    return [
        _completion(ids, offsets, places, end)
        for ids, offsets, (_, places) in zip(
            encoded["input_ids"], encoded["offset_mapping"], filled, strict=True
        )
    ]


def end_token_id(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> int:
    """The token that ends a completion: the chat template's end of turn, or the tokenizer's end token.

    Raises:
        StageError: there is none.
    """
    found = _turn_end(tokenizer, prompt) if prompt.format == "chat" else None
    end = tokenizer.eos_token_id if found is None else found
    if end is None:
        raise StageError(
            "the tokenizer has no end token, so a student would never learn to stop\n"
            "set eos_token in the model's tokenizer_config.json"
        )
    return int(end)


def _fill(rest: str, rationale: str, answer: str) -> tuple[str, dict[str, tuple[int, int]]]:
    """The completion's text and where its slots' texts stand in it; one pass, so that texts may hold braces."""
    values = {"rationale": rationale, "answer": answer}
    pieces: list[str] = []
    places: dict[str, tuple[int, int]] = {}
    length = at = 0
    for slot in SLOT.finditer(rest):
        name = slot.group(1)
        pieces += [rest[at : slot.start()], values[name]]
        start = length + slot.start() - at
        length = start + len(values[name])
        places[name] = (start, length)
        at = slot.end()
    return "".join([*pieces, rest[at:]]), places


def _completion(
    ids: list[int], offsets: list[tuple[int, int]], places: Mapping[str, tuple[int, int]], end: int
) -> Completion:
    """The completion with each token's part and its span in the rationale."""
    nowhere = (0, 0)
    first, last = places.get("rationale", nowhere)
    answer_first, answer_last = places.get("answer", nowhere)
    parts: list[Part] = []
    spans: list[tuple[int, int] | None] = []
    for start, stop in offsets:
        inside = (max(start, first), min(stop, last))
        is_inside = inside[0] < inside[1]
        spans.append((inside[0] - first, inside[1] - first) if is_inside else None)
        if max(start, answer_first) < min(stop, answer_last):
            parts.append("answer")
        else:
            parts.append("rationale" if is_inside else "template")
    return Completion(ids=(*ids, end), parts=(*parts, "end"), spans=(*spans, None))


def _turn_end(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> int | None:
    """The first special token that the chat template writes after an assistant's reply."""
    mark = "kpod-reply"
    tail = render_chat(tokenizer, prompt, "question", mark).rpartition(mark)[2]
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return next((token for token in ids if token in special), None)


def _writes_leading_space(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text's first token already holds a space (SentencePiece), so that ours would be a second one."""
    ids = tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(ids) and str(tokenizer.convert_ids_to_tokens(ids[0])).startswith("\u2581")


class RationaleTokens(NamedTuple):
    """The tokens of a rationale's text, as a student trains on them under the default prompt.

    Args:
        ids: token ids.
        spans: the characters (start, end) of the text that each covers.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


def encode_rationales(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]
) -> list[RationaleTokens]:
    """The tokens of rationales alone, in order; none where a text has none. Errors as `encode_completion`."""
    prompt = PromptConfig().resolve()
    completions = encode_completions(tokenizer, prompt, [(text, "") for text in texts])
    rows = []
    for completion in completions:
        pairs = [
            (token, span)
            for token, span in zip(completion.ids, completion.spans, strict=True)
            if span is not None
        ]
        rows.append(
            RationaleTokens(tuple(token for token, _ in pairs), tuple(span for _, span in pairs))
        )
    return rows
