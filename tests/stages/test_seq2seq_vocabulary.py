"""The real vocabulary of T5, from its SentencePiece file: the same tokens as SentencePiece's own, with character offsets."""

from __future__ import annotations

import contextlib
import json
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages._lm.loading import load_lm, load_tokenizer, tokenizer_of_folder
from kpod.stages._lm.prompts import encoder_ids
from kpod.stages._lm.sentencepiece_file import read_vocabulary, t5_tokenizer
from kpod.stages.model.from_config import Config, FromConfig
from tests.stages.fakes import FakeContext

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
SPIECE = SHARED / "tokenizers" / "flan-t5" / "spiece.model"


@cache
def _tokenizer() -> Any:
    if not SPIECE.is_file():
        pytest.skip("shared/tokenizers/flan-t5/spiece.model is not beside this checkout")
    return t5_tokenizer(SPIECE)


def _ids(text: str) -> list[int]:
    ids: list[int] = _tokenizer()(text, add_special_tokens=False)["input_ids"]
    return ids


def _pieces(text: str) -> list[str]:
    pieces: list[str] = _tokenizer().convert_ids_to_tokens(_ids(text))
    return pieces


def _uncovered(text: str) -> set[str]:
    """Characters, white space apart, that no token covers."""
    encoded = _tokenizer()(text, add_special_tokens=False, return_offsets_mapping=True)
    covered = {i for start, end in encoded["offset_mapping"] for i in range(start, end)}
    return {c for i, c in enumerate(text) if not c.isspace() and i not in covered}


@cache
def _rationales() -> tuple[str, ...]:
    """Real rationales: GPT-3.5's for SVAMP, and GSM8K's own solutions."""
    texts: list[str] = []
    svamp, gsm8k = (
        SHARED / "data" / name for name in ("svamp_gpt35/train.json", "gsm8k/train.jsonl")
    )
    if svamp.is_file():
        texts += [row["chain"] for row in json.loads(svamp.read_text(encoding="utf-8"))]
    if gsm8k.is_file():
        lines = gsm8k.read_text(encoding="utf-8").splitlines()[:150]
        texts += [json.loads(line)["answer"] for line in lines]
    if not texts:
        pytest.skip("shared/data is not beside this checkout")
    return tuple(texts)


def test_the_file_holds_the_vocabulary_that_t5_was_trained_with() -> None:
    tokenizer = _tokenizer()

    # 32,000 pieces and 100 sentinels; the ids of Flan-T5's published tokenizer.
    assert len(read_vocabulary(SPIECE).pieces) == 32_000
    assert len(tokenizer) == 32_100
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2)
    assert _pieces("Hello world. 12 + 7 = 19") == [
        "▁Hello",
        "▁world",
        ".",
        "▁12",
        "▁+",
        "▁7",
        "▁=",
        "▁19",
    ]
    assert tokenizer.convert_tokens_to_ids("<extra_id_0>") == 32_099
    assert encoder_ids(tokenizer, _ids("Hello")) == [8774, 1]


def test_real_rationales_get_the_tokens_that_sentencepiece_gives_them() -> None:
    import sentencepiece

    _tokenizer()
    own = sentencepiece.SentencePieceProcessor(model_file=str(SPIECE))

    different = [text for text in _rationales()[::4] if _ids(text) != own.encode(text)]

    assert different == []


def test_every_visible_character_of_real_rationales_is_covered_by_a_token() -> None:
    _tokenizer()
    missed = [found for text in _rationales()[::2] if (found := _uncovered(text))]

    # T5's normalisation drops zero-width and control characters; 4 of GPT-3.5's 1,953 rationales for SVAMP hold one.
    assert {unicodedata.category(character) for found in missed for character in found} <= {
        "Cf",
        "Cc",
    }
    assert len(missed) <= 4


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_every_ascii_character_is_covered_by_a_token(text: str) -> None:
    assert _uncovered(text) == set()


@pytest.mark.parametrize(
    ("text", "pieces", "uncovered"),
    [
        # One character that NFKC writes as three is covered by three tokens.
        ("½ cup", ["▁1", "<unk>", "2", "▁cup"], set()),
        ("3² ﬁne", ["▁32", "▁fine"], set()),
        ("Ａ＝３", ["▁A", "=", "3"], set()),
        # Signs that T5 does not know.
        ("5×3÷4 {a} <b>", ["▁5", "<unk>", "3", "<unk>", "4", "▁", "<unk>", "a", "<unk>", "▁", "<unk>", "b", ">"], set()),
        # What NFKC joins to the letter before it, or drops, has no token of its own.
        ("e\u0301", ["▁", "é"], {"\u0301"}),
        ("a\u200bb", ["▁", "a", "▁", "b"], {"\u200b"}),
    ],
)  # fmt: skip
def test_what_normalisation_does_to_unusual_characters(
    text: str, pieces: list[str], uncovered: set[str]
) -> None:
    assert (_pieces(text), _uncovered(text)) == (pieces, uncovered)


def test_a_newline_is_a_space_to_t5() -> None:
    assert _ids("one\ntwo\n\nthree") == _ids("one two three")
    assert _tokenizer().decode(_ids("one\ntwo")) == "one two"


def test_a_tiny_t5_takes_the_real_vocabulary_from_the_file(tmp_path: Path) -> None:
    _tokenizer()
    config = Config(
        architecture="t5", width=8, layers=1, heads=2, ff_width=8, tokenizer=str(SPIECE), tie_embeddings=False
    )  # fmt: skip
    ctx = FakeContext(config=config, sources={"tokenizer": SPIECE}, root=tmp_path)
    FromConfig().run(ctx)
    folder = ctx.folders["model"]
    files = ModelFiles(folder, None, read_spec(folder), "x")

    tokenizer, model = load_tokenizer(files), load_lm(files, precision="fp32", device="cpu")

    text = "Tom has 12 + 7 = 19 apples. ½"
    assert tokenizer(text)["input_ids"] == [*_ids(text), 1]
    assert (files.spec.vocab_size, model.config.decoder_start_token_id) == (32_100, 0)


def test_a_folder_with_only_the_sentencepiece_file_has_a_tokenizer(tmp_path: Path) -> None:
    _tokenizer()
    (tmp_path / "spiece.model").write_bytes(SPIECE.read_bytes())
    whole = tokenizer_of_folder(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 0}')
    bare = tokenizer_of_folder(tmp_path)

    assert (len(whole), len(bare)) == (32_100, 32_000)
    assert whole("a b")["input_ids"] == bare("a b")["input_ids"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not a model", "no SentencePiece file"),
        (b"", "holds 0 pieces of model type 1"),
        (b"\x0a\x7f", "cut short: 129 bytes promised, 2 there"),
        # One piece "a"; then the same in a file of model type 2 (BPE).
        (b"\x0a\x03\x0a\x01a", "its first pieces are a; a T5 vocabulary begins with <pad>, </s>, <unk>"),
        (b"\x0a\x03\x0a\x01a\x12\x02\x18\x02", "holds 1 pieces of model type 2; T5's is unigram"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_t5_vocabulary_is_refused(
    tmp_path: Path, data: bytes, message: str
) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(data)

    with pytest.raises(StageError, match=message):
        t5_tokenizer(path)


@settings(max_examples=50)
@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused_by_name(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.model"
    path.write_bytes(data)

    # Anything but a StageError fails the test.
    with contextlib.suppress(StageError):
        assert read_vocabulary(path).pieces


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"none\.model: no such file; name a SentencePiece file"):
        t5_tokenizer(tmp_path / "none.model")
