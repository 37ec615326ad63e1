"""What a model on this machine reads when it is asked: token ids, as a chat or as plain text, and the token that ends its reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kpod.runner import StageError
from kpod.stages._lm.chats import encode_texts, rendered
from kpod.stages._lm.completions import end_token_id
from kpod.stages._lm.examples import shots
from kpod.stages._lm.prompts import Prompt, encoder_ids
from kpod.stages.teacher._prompt import Ask, ask_text, messages

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.family import Family
    from kpod.stages.teacher.local import TeacherPrompt


def is_chat(prompt: TeacherPrompt, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the teacher is asked in a chat.

    Raises:
        StageError: a system message or a thinking mode, and no chat template to take it.
    """
    has_template = bool(tokenizer.chat_template)
    found = prompt.format == "chat" or (prompt.format == "auto" and has_template)
    if not found and (prompt.system is not None or prompt.thinking != "off"):
        raise StageError(
            "prompt.system or prompt.thinking is set, but the teacher's tokenizer has no chat template to take it\n"
            "leave it out, or use an instruction-tuned teacher"
        )
    return found


def read_texts(
    tokenizer: PreTrainedTokenizerBase, prompt: TeacherPrompt, asks: Sequence[Ask]
) -> list[str]:
    """All that the teacher reads before its first token, examples included, in the order of the asks. Errors as `is_chat`."""
    if is_chat(prompt, tokenizer):
        is_thinking = prompt.thinking != "off"
        chats = (messages(prompt, ask) for ask in asks)
        return [rendered(tokenizer, chat, is_thinking=is_thinking) for chat in chats]
    before = shots(
        prompt.template, prompt.examples, fill=lambda question: ask_text(prompt, question)
    )
    return [before + ask.text for ask in asks]


def read_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompt: TeacherPrompt,
    asks: Sequence[Ask],
    *,
    family: Family,
) -> list[list[int]]:
    """Token ids of `read_texts`, ended where an encoder reads them."""
    texts = read_texts(tokenizer, prompt, asks)
    rows = encode_texts(tokenizer, texts, is_chat=is_chat(prompt, tokenizer))
    return [encoder_ids(tokenizer, row) for row in rows] if family == "seq2seq" else rows


def reply_end_id(tokenizer: PreTrainedTokenizerBase, prompt: TeacherPrompt) -> int:
    """The token that ends what the teacher says: the chat template's end of turn, or the tokenizer's end token."""
    asked = Prompt(
        name="custom",
        version=1,
        template="{question}{rationale}",
        format="chat" if is_chat(prompt, tokenizer) else "plain",
        system=prompt.system,
        thinking="off" if prompt.thinking == "off" else "on",
    )
    return end_token_id(tokenizer, asked)
