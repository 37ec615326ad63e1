"""Prompts: the same ids in training and evaluation, one end token, spans of the rationale that survive tokenisation."""

from __future__ import annotations

import logging
from copy import deepcopy
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Question, SettingError, StageError
from kpod.stages._lm.completions import encode_completion, end_token_id
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.prompts import (
    Prompt,
    PromptConfig,
    encode_prompt,
    encode_prompts,
    prompt_text,
    question_text,
)
from tests.stages.tiny_models import tiny_files

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
QUESTION = Question.make(
    "Tom has 2 apples. How many?", kind="numeric", answer="2", split="train", source="test"
)


@cache
def byte_tokenizer(*, begins_with_bos: bool = False) -> Any:
    """A tokenizer of bytes with Qwen's special tokens, and, if asked, a BOS that it adds itself."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*letters, *special])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(special)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begins_with_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        bos_token="<s>",
        pad_token="<|endoftext|>",
    )
    fast.chat_template = CHATML
    return fast


@cache
def word_tokenizer() -> Any:
    return load_tokenizer(tiny_files())


def test_the_default_prompt_is_the_template_of_kpod() -> None:
    prompt = PromptConfig().resolve()

    assert prompt_text(word_tokenizer(), prompt, QUESTION) == (
        "Q: Tom has 2 apples. How many? A: Let's think step by step."
    )
    completion = encode_completion(word_tokenizer(), prompt, rationale="Tom has 2.", answer="2")
    assert word_tokenizer().decode(completion.ids) == (
        "Tom has 2. Therefore, the answer is 2 <end>"
    )


def test_the_answer_only_prompt_leaves_one_answer_and_one_end_token_to_say() -> None:
    prompt = PromptConfig(name="answer_only").resolve()

    completion = encode_completion(word_tokenizer(), prompt, rationale="", answer="2")

    assert completion.parts == ("answer", "end")
    assert prompt_text(word_tokenizer(), prompt, QUESTION).endswith("A: Therefore, the answer is")


def test_choices_stand_below_the_question_with_their_letters() -> None:
    question = Question.make(
        "Where?", kind="choice", answer="B", split="train", source="test", choices=["bank", "shop"]
    )

    assert question_text(question) == "Where?\nAnswer Choices:\nA. bank\nB. shop"


def test_slots_inside_a_question_or_a_rationale_stay_as_they_are() -> None:
    question = Question.make(
        "What is {answer}?", kind="text", answer="x", split="train", source="test"
    )
    prompt = PromptConfig().resolve()

    assert "What is {answer}?" in prompt_text(byte_tokenizer(), prompt, question)
    completion = encode_completion(
        byte_tokenizer(), prompt, rationale="{answer}", answer="{rationale}"
    )
    assert byte_tokenizer().decode(completion.ids[:-1]) == (
        " {answer} Therefore, the answer is {rationale}"
    )


@pytest.mark.parametrize("begins_with_bos", [False, True])
def test_a_plain_prompt_begins_with_bos_only_where_the_tokenizer_adds_one(
    begins_with_bos: bool,
) -> None:
    tokenizer = byte_tokenizer(begins_with_bos=begins_with_bos)
    ids = encode_prompt(tokenizer, PromptConfig().resolve(), QUESTION)

    assert ids.count(tokenizer.bos_token_id) == int(begins_with_bos)
    assert (ids[0] == tokenizer.bos_token_id) == begins_with_bos


def test_a_bos_that_the_chat_template_writes_is_not_doubled() -> None:
    tokenizer = byte_tokenizer(begins_with_bos=True)
    prompt = PromptConfig(format="chat").resolve()
    tokenizer.chat_template = "<s>" + CHATML
    try:
        ids = encode_prompt(tokenizer, prompt, QUESTION)
    finally:
        tokenizer.chat_template = CHATML

    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_chat_prompt_ends_where_the_assistant_begins_and_its_completion_with_the_turns_end() -> (
    None
):
    prompt = PromptConfig(format="chat", system="Be brief.", thinking="on").resolve()
    tokenizer = byte_tokenizer()

    assert prompt_text(tokenizer, prompt, QUESTION) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nTom has 2 apples. How many?\n"
        "Let's think step by step.<|im_end|>\n<|im_start|>assistant\n"
    )
    completion = encode_completion(tokenizer, prompt, rationale="Two.", answer="2")
    assert tokenizer.decode(completion.ids) == "Two. Therefore, the answer is 2<|im_end|>"
    assert end_token_id(tokenizer, prompt) == tokenizer.convert_tokens_to_ids("<|im_end|>")


@pytest.mark.parametrize(("thinking", "has_block"), [("off", True), ("on", False), ("keep", False)])
def test_an_empty_think_block_belongs_to_the_prompt(thinking: Any, has_block: bool) -> None:
    prompt = PromptConfig(format="chat", thinking=thinking).resolve()

    text = prompt_text(byte_tokenizer(), prompt, QUESTION)
    completion = encode_completion(byte_tokenizer(), prompt, rationale="Two.", answer="2")

    assert text.endswith("<think>\n\n</think>\n\n") == has_block
    assert "think" not in byte_tokenizer().decode(completion.ids)


@pytest.mark.parametrize("format_", ["plain", "chat"])
def test_a_text_longer_than_the_model_is_tokenised_without_a_word(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, format_: Any
) -> None:
    logger = logging.getLogger("transformers")
    monkeypatch.setattr(logger, "propagate", True)
    # Copies, because transformers says it once a tokenizer.
    tokenizers = [deepcopy(byte_tokenizer()) for _ in range(3)]
    for tokenizer in tokenizers:
        tokenizer.model_max_length = 8
    prompt = PromptConfig(format=format_).resolve()

    with caplog.at_level(logging.WARNING, logger="transformers"):
        encode_prompt(tokenizers[0], prompt, QUESTION)
        encode_completion(tokenizers[1], prompt, rationale="Tom has 2 apples.", answer="2")
        silent = list(caplog.messages)
        tokenizers[2]("Tom has 2 apples.")

    assert silent == []
    # The guard of this test: transformers itself does say it.
    assert "sequence length is longer" in "".join(caplog.messages)


def test_a_chat_prompt_needs_a_chat_template() -> None:
    with pytest.raises(
        StageError, match="prompt format is chat, but the tokenizer has no chat template"
    ):
        encode_prompt(word_tokenizer(), PromptConfig(format="chat").resolve(), QUESTION)


@pytest.mark.parametrize(
    ("settings_of_a_prompt", "message"),
    [
        ({"name": "custom"}, "template: a template and the name custom belong together"),
        ({"template": "{question} {answer}"}, "template: a template and the name custom belong"),
        ({"name": "custom", "template": "{question}"}, "has neither {rationale} nor {answer}"),
        (
            {"name": "custom", "template": "{answer} {question}"},
            "has no {question} before its first",
        ),
        (
            {"name": "custom", "template": "{question}{answer}{answer}"},
            "has {answer} more than once",
        ),
        ({"system": "x"}, "system: a plain prompt has no system message; set format: chat"),
        ({"thinking": "on"}, "thinking: a plain prompt has no thinking mode; set format: chat"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings_of_a_prompt: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError) as raised:
        PromptConfig(**settings_of_a_prompt)

    assert message in str(raised.value)


def test_a_prompt_survives_its_json() -> None:
    prompt = PromptConfig(
        name="custom",
        template="{question}\n{rationale}",
        format="chat",
        system="s",
        thinking="keep",
    ).resolve()

    assert Prompt.from_json(prompt.to_json()) == prompt


def test_a_prompt_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(StageError, match="a model's prompt cannot be read"):
        Prompt.from_json({**PromptConfig().resolve().to_json(), "shots": 8})


def test_many_prompts_are_encoded_as_each_alone() -> None:
    other = Question.make("Who?", kind="text", answer="I", split="train", source="test")
    prompt = PromptConfig().resolve()

    assert encode_prompts(byte_tokenizer(), prompt, [QUESTION, other]) == [
        encode_prompt(byte_tokenizer(), prompt, question) for question in (QUESTION, other)
    ]


@settings(max_examples=60, deadline=None)
@given(rationale=st.text(min_size=1, max_size=40), answer=st.text(max_size=5))
def test_the_spans_of_the_rationales_tokens_cover_it_whole_and_in_order(
    rationale: str, answer: str
) -> None:
    tokenizer = byte_tokenizer()
    completion = encode_completion(
        tokenizer, PromptConfig().resolve(), rationale=rationale, answer=answer
    )
    spans = [span for span in completion.spans if span is not None]

    assert {place for start, end in spans for place in range(start, end)} == set(
        range(len(rationale))
    )
    assert spans == sorted(spans)
    assert (
        completion.ids.count(tokenizer.eos_token_id) == 1 or "<|endoftext|>" in rationale + answer
    )
    assert completion.parts[-1] == "end"
    assert len(completion.ids) == len(completion.parts) == len(completion.spans)


def test_a_token_that_holds_the_space_before_the_rationale_counts_as_the_rationales() -> None:
    completion = encode_completion(
        byte_tokenizer(), PromptConfig().resolve(), rationale="Hm.", answer="7"
    )

    said = " Hm. Therefore, the answer is 7"
    assert len(completion.ids) == len(said) + 1
    assert completion.parts[:5] == ("template", "rationale", "rationale", "rationale", "template")
    assert completion.spans[1:4] == ((0, 1), (1, 2), (2, 3))
