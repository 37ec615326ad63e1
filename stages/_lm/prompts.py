"""The prompt of a student: what it reads, what it is to say, and the token ids of both.

Training and evaluation call the same `encode_prompt`, so the ids that evaluation sends are the ids that were trained.
Prompt and completion are tokenised apart and joined (PRACTICE 2: `len(encode(prompt))` is no boundary). The default
template is KPOD's (Sec. 3.1): `Q: <x> A: Let's think step by step. <r> Therefore, the answer is <y>`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kpod.runner import Doc, Question, SettingError, StageError
from kpod.stages._lm.chats import encode_texts, rendered
from kpod.stages._lm.examples import Example, shots, turns_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.family import Family

PromptName = Literal["cot", "answer_only", "custom"]
PromptFormat = Literal["plain", "chat"]
Thinking = Literal["off", "on", "keep"]

SLOT = re.compile(r"\{(question|rationale|answer)\}")
_TARGET_SLOT = re.compile(r"\{(?:rationale|answer)\}")
# The wording of a named prompt; who changes one raises its version.
_NAMED: dict[tuple[str, str], tuple[int, str]] = {
    ("cot", "plain"): (
        1,
        "Q: {question} A: Let's think step by step. {rationale} Therefore, the answer is {answer}",
    ),
    ("cot", "chat"): (
        1,
        "{question}\nLet's think step by step. {rationale} Therefore, the answer is {answer}",
    ),
    ("answer_only", "plain"): (1, "Q: {question} A: Therefore, the answer is {answer}"),
    ("answer_only", "chat"): (1, "{question}\nGive only the answer. {answer}"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """How a recipe names a prompt."""

    name: Annotated[
        PromptName,
        Doc(
            "cot: reasoning, then the answer (KPOD Sec. 3.1); answer_only: the answer alone; "
            "custom: the text of `template`."
        ),
    ] = "cot"
    template: Annotated[
        str | None,
        Doc(
            "Only with name custom: a text with {question}, then {rationale} and/or {answer}. "
            "All before the first of these two is the prompt, the rest is what the student learns to say."
        ),
    ] = None
    format: Annotated[
        PromptFormat,
        Doc(
            "plain: the text as it stands; chat: the prompt as a user's turn of the chat template."
        ),
    ] = "plain"
    system: Annotated[str | None, Doc("System message; only with format chat.")] = None
    thinking: Annotated[
        Thinking,
        Doc(
            "Thinking mode of chat templates that have one (Qwen3): off, on, or keep the template's "
            "own default; only with format chat."
        ),
    ] = "off"

    def __post_init__(self) -> None:
        if (self.name == "custom") != (self.template is not None):
            raise SettingError(
                "template",
                "a template and the name custom belong together",
                hint="set both, or name cot or answer_only alone",
            )
        if self.template is not None:
            _check_template(self.template)
        if self.format == "plain" and self.system is not None:
            raise SettingError(
                "system", "a plain prompt has no system message", hint="set format: chat"
            )
        if self.format == "plain" and self.thinking != "off":
            raise SettingError(
                "thinking", "a plain prompt has no thinking mode", hint="set format: chat"
            )

    def resolve(self) -> Prompt:
        """The prompt with its text and version."""
        if self.template is not None:
            version, template = 1, self.template
        else:
            version, template = _NAMED[self.name, self.format]
        return Prompt(
            name=self.name, version=version, template=template, format=self.format,
            system=self.system, thinking=self.thinking,
        )  # fmt: skip


def _check_template(template: str) -> None:
    """Refuse a template whose prompt or targets could not be told apart."""
    slots = SLOT.findall(template)
    first = _TARGET_SLOT.search(template)
    if first is None:
        raise SettingError(
            "template",
            "has neither {rationale} nor {answer}",
            hint="add what the student is to say",
        )
    if "{question}" not in template[: first.start()]:
        raise SettingError(
            "template", "has no {question} before its first {rationale} or {answer}",
            hint='example: "{question}\\n{rationale} The answer is {answer}"',
        )  # fmt: skip
    twice = [slot for slot in ("question", "rationale", "answer") if slots.count(slot) > 1]
    if twice:
        raise SettingError(
            "template", f"has {{{twice[0]}}} more than once", hint="keep one of them"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A resolved prompt, as it stands in a student's model.json and in its content id.

    Args:
        name, version: which wording; custom prompts are always version 1.
        template: the text with its slots; everything up to the first of {rationale} and {answer} is the prompt.
    """

    name: PromptName
    version: int
    template: str
    format: PromptFormat
    system: str | None
    thinking: Thinking

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        """The prompt that `to_json` wrote.

        Raises:
            StageError: a field is missing or unknown.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise StageError(
                f"a model's prompt cannot be read: {error}\n"
                f"allowed fields: {', '.join(cls.__slots__)}\ntrain the model again with this kpod"
            ) from error

    @property
    def has_rationale(self) -> bool:
        """Whether the student learns to say the reasoning."""
        return "{rationale}" in self.template

    @property
    def has_answer(self) -> bool:
        """Whether the student learns to say the answer in the template's words."""
        return "{answer}" in self.template

    def split(self) -> tuple[str, str]:
        """The template's prompt, without white space at its end, and the rest, which begins with that space."""
        first = _TARGET_SLOT.search(self.template)
        assert first is not None, "a prompt has a target"
        head = self.template[: first.start()].rstrip()
        return head, self.template[len(head) :]


def question_text(question: Question) -> str:
    """The question with its lettered choices, as KPOD writes CommonsenseQA (KPOD 5: `Answer Choices:`, `A. …`)."""
    if question.choices is None:
        return question.text
    choices = (f"{chr(ord('A') + index)}. {text}" for index, text in enumerate(question.choices))
    return "\n".join([question.text, "Answer Choices:", *choices])


def prompt_text(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    question: Question,
    *,
    examples: Sequence[Example] = (),
) -> str:
    """The text before the student's first token, chat template and examples included.

    Raises:
        StageError: the format is chat and the tokenizer has no chat template.
    """
    head, rest = prompt.split()

    def fill(text: str) -> str:
        return SLOT.sub(lambda _: text, head)

    asked = fill(question_text(question))
    if prompt.format == "chat":
        turns = [turn for one in examples for turn in turns_of(one, fill=fill)]
        return render_chat(tokenizer, prompt, asked, before=turns)
    gap = rest[: len(rest) - len(rest.lstrip())]
    return shots(head + gap, examples, fill=fill) + asked


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, question: Question
) -> list[int]:
    """Token ids of the prompt, as trained and as sent in evaluation. Errors as `prompt_text`."""
    return encode_prompts(tokenizer, prompt, [question])[0]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    questions: Sequence[Question],
    *,
    examples: Sequence[Example] = (),
) -> list[list[int]]:
    """Token ids of many prompts, in order. Errors as `prompt_text`."""
    texts = [prompt_text(tokenizer, prompt, one, examples=examples) for one in questions]
    return encode_texts(tokenizer, texts, is_chat=prompt.format == "chat")


def model_inputs(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    questions: Sequence[Question],
    *,
    family: Family,
    examples: Sequence[Example] = (),
) -> list[list[int]]:
    """What a model reads before its first token, in the order of the questions: the prompts, ended where an encoder reads them.

    Errors as `prompt_text`.
    """
    rows = encode_prompts(tokenizer, prompt, questions, examples=examples)
    return [encoder_ids(tokenizer, row) for row in rows] if family == "seq2seq" else rows


def encoder_ids(tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int]) -> list[int]:
    """What the encoder of a sequence-to-sequence model reads: these ids and one end token.

    T5 and Flan-T5 were trained on inputs that end so, and their own tokenizer ends every text so. A newline of a prompt is a
    space to T5: its vocabulary has no other white space, so lettered choices stand on one line.

    Args:
        tokenizer: the model's; it names an end token, as `load_tokenizer` saw to.
        prompt_ids: of `encode_prompts`, and of the input steps behind it where there are any; without an end token.

    Source: Raffel et al. 2020 (T5, arXiv 1910.10683), whose published tokenizer appends the end token to inputs and targets.
    """
    end = tokenizer.eos_token_id
    assert end is not None, "load_tokenizer refuses a tokenizer without end token"
    return [*prompt_ids, int(end)]


def render_chat(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    text: str,
    reply: str | None = None,
    *,
    before: Sequence[Mapping[str, str]] = (),
) -> str:
    """The chat up to the assistant's first token, or with a whole reply; turns before it between system message and text."""
    system = [] if prompt.system is None else [{"role": "system", "content": prompt.system}]
    chat = [*system, *before, {"role": "user", "content": text}]
    if reply is not None:
        chat.append({"role": "assistant", "content": reply})
    is_thinking = None if prompt.thinking == "keep" else prompt.thinking == "on"
    return rendered(tokenizer, chat, is_thinking=is_thinking)
