"""Training sequences: joined by id, never cut, and refused where there is nothing to learn."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest

from kpod.runner import Question, Rationale, StageError
from kpod.stages._lm.encoding import Encoded, OnTooLong, encode_examples
from kpod.stages._lm.loading import load_tokenizer
from kpod.stages._lm.prompts import PromptConfig, encode_prompt
from kpod.stages._lm.unknown_tokens import Unknown
from tests.stages.tiny_models import tiny_files


@cache
def tokenizer() -> Any:
    return load_tokenizer(tiny_files())


def question(number: int, answer: str | None = "7") -> Question:
    return Question.make(
        f"Tom has {number} apples. How many?",
        kind="numeric",
        answer=answer,
        split="train",
        source="test",
    )


def rationale(of: Question, text: str = "Tom has 7.", answer: str | None = None) -> Rationale:
    return Rationale.make(of.id, text, teacher="reference", answer=answer)


def encode(
    questions: list[Question],
    rationales: list[Rationale],
    *,
    prompt: PromptConfig | None = None,
    max_length: int = 256,
    on_too_long: OnTooLong = "error",
) -> Encoded:
    return encode_examples(
        tokenizer(), questions=questions, rationales=rationales,
        prompt=(prompt or PromptConfig()).resolve(), max_length=max_length, on_too_long=on_too_long,
    )  # fmt: skip


def test_every_rationale_becomes_a_sequence_under_its_own_id() -> None:
    first, second = question(1), question(2)
    rationales = [rationale(second, "Tom has 2."), rationale(first), rationale(first, "Tom has 1.")]

    encoded = encode([first, second], rationales)

    assert [example.example_id for example in encoded.examples] == [row.id for row in rationales]
    assert [example.question_id for example in encoded.examples] == [second.id, first.id, first.id]


def test_the_prompt_is_what_evaluation_sends_and_all_that_follows_is_target() -> None:
    asked = question(1)
    (example,) = encode([asked], [rationale(asked)]).examples

    assert list(example.prompt_ids) == encode_prompt(tokenizer(), PromptConfig().resolve(), asked)
    assert example.passage(1).target_ids == example.completion.ids
    assert example.completion.ids[-1] == tokenizer().eos_token_id
    assert example.num_targets(1) == len(example.completion.ids)


def test_answer_only_trains_once_on_each_question_that_has_a_rationale() -> None:
    asked, unanswered = question(1), question(2)

    encoded = encode(
        [asked, unanswered],
        [rationale(asked), rationale(asked, "Tom has 1.")],
        prompt=PromptConfig(name="answer_only"),
    )

    assert [example.example_id for example in encoded.examples] == [asked.id]
    assert encoded.without_rationale == (unanswered.id,)
    assert tokenizer().decode(encoded.examples[0].completion.ids) == "7 <end>"


def test_the_gold_answer_goes_before_the_one_found_in_the_rationale() -> None:
    asked, no_gold = question(1), question(2, answer=None)

    encoded = encode(
        [asked, no_gold], [rationale(asked, answer="8"), rationale(no_gold, answer="9")]
    )

    said = [tokenizer().decode(example.completion.ids[-2]) for example in encoded.examples]
    assert said == ["7", "9"]


def test_a_missing_answer_is_named_by_the_rationales_id() -> None:
    asked = question(1, answer=None)
    row = rationale(asked)

    with pytest.raises(
        StageError, match=f"rationale {row.id}: question {asked.id} has no gold answer"
    ):
        encode([asked], [row])


def test_an_unknown_question_is_named_by_id() -> None:
    row = rationale(question(2))

    with pytest.raises(
        StageError, match=f"1 of 1 rationales belong to no question of this stage: {row.id}"
    ):
        encode([question(1)], [row])


def test_an_empty_target_is_named_by_id() -> None:
    asked = question(1)
    row = rationale(asked, "  ")

    with pytest.raises(StageError, match=f"example {row.id}: its text is empty"):
        encode(
            [asked], [row], prompt=PromptConfig(name="custom", template="{question} {rationale}")
        )


def test_a_long_sequence_is_an_error_that_says_how_long() -> None:
    asked = question(1)
    row = rationale(asked)

    with pytest.raises(StageError) as raised:
        encode([asked], [row], max_length=10)

    assert str(raised.value) == (
        f"1 of 1 training sequences are longer than 10 tokens; the longest, {row.id}, has 27\n"
        "raise max_length (up to the model's context), or set on_too_long: drop to leave them out"
    )


def test_a_long_sequence_is_left_out_whole_and_told_where_the_recipe_says_drop() -> None:
    asked = question(1)
    short, long = rationale(asked), rationale(asked, "Tom has 7. " * 5)

    encoded = encode([asked], [short, long], max_length=30, on_too_long="drop")

    assert [example.example_id for example in encoded.examples] == [short.id]
    assert encoded.dropped == (long.id,)


def test_nothing_left_to_train_on_is_an_error() -> None:
    with pytest.raises(
        StageError, match="nothing to train on: 1 questions, 0 rationales, 0 longer"
    ):
        encode([question(1)], [])


def test_tokens_that_the_tokenizer_does_not_know_are_counted_in_prompts_and_targets() -> None:
    first, second = question(1), question(2)
    known = encode([first], [rationale(first)])
    told = encode([first, second], [rationale(first, "Zoltan has shells."), rationale(second)])

    ids = [token for one in told.examples for token in (*one.prompt_ids, *one.completion.ids)]
    assert known.unknown.num_unknown == 0
    assert told.unknown.num_unknown == ids.count(tokenizer().unk_token_id) == 2
    assert told.unknown.num_tokens == len(ids)
    assert told.unknown.share == 2 / len(ids)


def test_a_tokenizer_whose_end_token_is_called_the_unknown_one_knows_everything() -> None:
    same = copy.deepcopy(tokenizer())
    same.unk_token = same.eos_token
    first = question(1)
    examples = encode([first], [rationale(first)]).examples
    unknown = Unknown(same)

    assert tuple(unknown.passed(examples)) == examples
    assert same.unk_token_id in examples[0].completion.ids
    assert (unknown.num_unknown, unknown.num_tokens) == (0, examples[0].num_tokens)
