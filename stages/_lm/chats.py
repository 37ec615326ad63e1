"""Chats as a tokenizer's template writes them, and texts as token ids with the beginning that the model expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kpod.runner import StageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def rendered(
    tokenizer: PreTrainedTokenizerBase,
    chat: Sequence[Mapping[str, str]],
    *,
    is_thinking: bool | None,
) -> str:
    """The chat as text: up to the assistant's first token, or whole where its last turn is the assistant's.

    Args:
        tokenizer: with a chat template.
        chat: turns of role and content.
        is_thinking: the template's thinking switch (Qwen3); None leaves it at the template's own default.

    Raises:
        StageError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise StageError(
            "prompt format is chat, but the tokenizer has no chat template\n"
            "allowed: plain; or use an instruction-tuned model, whose tokenizer has one"
        )
    options = {} if is_thinking is None else {"enable_thinking": is_thinking}
    return str(
        tokenizer.apply_chat_template(
            [dict(turn) for turn in chat],
            tokenize=False,
            add_generation_prompt=chat[-1]["role"] != "assistant",
            **options,
        )
    )


def encode_texts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, is_chat: bool
) -> list[list[int]]:
    """Token ids of texts, in order; a plain text begins with the tokenizer's own start token, a chat brings its own."""
    if not texts:
        return []
    # Not verbose: lengths are checked by those who know the limit, with the question's id.
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)
    rows: list[list[int]] = encoded["input_ids"]
    start = [] if is_chat else _start_ids(tokenizer)
    return [row if row[: len(start)] == start else [*start, *row] for row in rows]


def _start_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """[BOS] where the tokenizer begins its own sequences with one, else nothing."""
    bos = tokenizer.bos_token_id
    ids: list[int] = tokenizer("a")["input_ids"]
    return [bos] if bos is not None and ids and ids[0] == bos else []
