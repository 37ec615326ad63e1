"""The word-level tokenizer."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import StageError
from kpod.stages._lm.loading import tokenizer_of_folder
from kpod.stages._lm.word_tokenizer import word_tokenizer

WORDS = [
    *map(str, range(100)), "Q:", "A:", *".,?+-*/=():%$", "Let's", "think", "step", "by", "Therefore", "the", "answer", "is",
    "Tom", "has", "apples",
]  # fmt: skip
TOKENIZER = word_tokenizer(WORDS, max_tokens=64)
KPOD = "Q: Tom has 12 + 7 = 19 apples. A: Let's think step by step. Therefore, the answer is 8"


@pytest.mark.parametrize(
    "text",
    [
        KPOD,
        "Tom has $5, 12% (3 + 5) * 8 = 64 - 72 = -8 / 2.",
        "Let's think: 3 * (-4) = -12, is the answer 12?",
        "(Tom has 3 apples)",
    ],
)
def test_normal_sentences_come_back_as_they_were(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_marks_signs_and_words_are_tokens_and_apostrophes_stay_in_words() -> None:
    pieces = TOKENIZER.tokenize("Q: Tom has $12. A: Let's think")

    assert pieces == ["Q:", "Tom", "has", "$", "12", ".", "A:", "Let's", "think"]


def test_a_number_with_a_point_inside_is_one_piece() -> None:
    assert TOKENIZER.backend_tokenizer.pre_tokenizer.pre_tokenize_str("3.5, 1,200.") == [
        ("3.5", (0, 3)), (",", (3, 4)), ("1,200", (5, 10)), (".", (10, 11)),
    ]  # fmt: skip


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=60))
def test_offsets_cover_every_character_but_white_space_once(text: str) -> None:
    offsets = TOKENIZER(text, return_offsets_mapping=True)["offset_mapping"]

    assert "".join(text[a:b] for a, b in offsets) == "".join(text.split())


@given(
    st.lists(st.sampled_from([word for word in WORDS if word not in {"-", "(", "$"}]), max_size=20)
)
def test_decoding_and_encoding_again_gives_the_same_tokens(words: list[str]) -> None:
    # Without the signs that open: "- 5" is written "-5" after an operator, which is the same two tokens but needs context.
    ids = TOKENIZER.convert_tokens_to_ids(words)

    assert TOKENIZER(TOKENIZER.decode(ids))["input_ids"] == ids


def test_saved_twice_it_is_the_same_bytes_and_loads_with_pad_apart_from_end(tmp_path: Path) -> None:
    for name in ("one", "two"):
        word_tokenizer(WORDS, max_tokens=64).save_pretrained(str(tmp_path / name))
    loaded = tokenizer_of_folder(tmp_path / "one")

    one, two = (
        {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two")
    )
    assert one == two
    assert (loaded.pad_token, loaded.eos_token, loaded.padding_side) == ("<pad>", "<end>", "left")
    assert loaded.decode(loaded(KPOD)["input_ids"]) == KPOD


def test_a_word_that_stands_twice_is_refused() -> None:
    with pytest.raises(StageError, match="'Tom' stands in it twice"):
        word_tokenizer(["Tom", "has", "Tom"], max_tokens=8)


def test_a_word_that_can_never_match_is_refused_with_its_parts() -> None:
    with pytest.raises(StageError, match=r"'well-known' is read as 3 tokens \(well - known\)"):
        word_tokenizer(["well-known"], max_tokens=8)
