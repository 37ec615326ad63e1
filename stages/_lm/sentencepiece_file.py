"""A T5 tokenizer from its SentencePiece file (spiece.model), with character offsets and without protobuf.

transformers 5.23 needs protobuf for such a file, and `T5Tokenizer(vocab_file=…)` gives an empty vocabulary in silence; so the
few fields that matter are read here. Source: sentencepiece_model.proto (ModelProto.pieces = 1: piece = 1, score = 2;
trainer_spec = 2: model_type = 3, 1 is unigram; normalizer_spec = 3: precompiled_charsmap = 2) and protobuf's wire format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import StageError
from kpod.stages._lm.artifact import read_json_object

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_UNIGRAM = 1
# T5's vocabulary begins with these, and its tokenizer class takes them for granted.
_FIRST = ("<pad>", "</s>", "<unk>")
# T5's sentinels, behind the pieces of the file (Raffel et al. 2020, section 3.1.4); Flan-T5 has 32,000 + 100 tokens.
T5_EXTRA_IDS = 100


class Vocabulary(NamedTuple):
    """What a unigram SentencePiece file holds.

    Args:
        pieces: (piece, log probability), by token id.
        charsmap: the compiled normalisation (T5: NFKC with white space folded); None where there is none.
    """

    pieces: list[tuple[str, float]]
    charsmap: bytes | None


def t5_tokenizer_of_folder(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a T5's folder that holds no tokenizer.json but spiece.model. Errors as `t5_tokenizer`."""
    config = folder / "tokenizer_config.json"
    named = read_json_object(config).get("extra_ids") if config.is_file() else None
    extra_ids = T5_EXTRA_IDS if named is None else int(named)
    return t5_tokenizer(folder / "spiece.model", extra_ids=extra_ids)


def t5_tokenizer(path: Path, *, extra_ids: int = T5_EXTRA_IDS) -> PreTrainedTokenizerFast:
    """The T5 tokenizer of a SentencePiece file.

    Args:
        path: spiece.model of a T5, mT5 or Flan-T5.
        extra_ids: sentinels behind the pieces (mT5: 0).

    Raises:
        StageError: as `read_vocabulary`; or the vocabulary does not begin as T5's does.
    """
    from transformers import T5TokenizerFast

    vocabulary = read_vocabulary(path)
    first = tuple(piece for piece, _ in vocabulary.pieces[: len(_FIRST)])
    if first != _FIRST:
        raise StageError(
            f"{path}: its first pieces are {', '.join(first) or 'none'}; a T5 vocabulary begins with {', '.join(_FIRST)}\n"
            "for another kind of tokenizer, give a folder with tokenizer.json and tokenizer_config.json"
        )
    sentinels = [(f"<extra_id_{number}>", 0.0) for number in range(extra_ids - 1, -1, -1)]
    made: Any = T5TokenizerFast(
        vocab=[*vocabulary.pieces, *sentinels],
        _spm_precompiled_charsmap=vocabulary.charsmap,
        extra_ids=extra_ids,
    )
    found: PreTrainedTokenizerFast = made
    return found


def read_vocabulary(path: Path) -> Vocabulary:
    """The pieces of a SentencePiece file.

    Raises:
        StageError: there is no such file, it is no SentencePiece file, or its model is not unigram.
    """
    if not path.is_file():
        raise StageError(f"{path}: no such file; name a SentencePiece file such as spiece.model")
    try:
        parts = list(_fields(path.read_bytes()))
        pieces = [_piece(value) for number, value in parts if number == _PIECES]
        trainer = _merged(parts, _TRAINER)
        charsmap = _merged(parts, _NORMALIZER).get(2)
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise StageError(
            f"{path}: no SentencePiece file ({error}); fetch or copy it again"
        ) from error
    if not pieces or trainer.get(3, _UNIGRAM) != _UNIGRAM:
        raise StageError(
            f"{path}: holds {len(pieces)} pieces of model type {trainer.get(3, _UNIGRAM)}; T5's is unigram (type 1)\n"
            "for another kind of tokenizer, give a folder with tokenizer.json and tokenizer_config.json"
        )
    return Vocabulary(pieces, charsmap or None)


def _piece(message: bytes) -> tuple[str, float]:
    row: dict[int, Any] = dict(_fields(message))
    (score,) = struct.unpack("<f", row.get(2, b"\0\0\0\0"))
    return row[1].decode(), float(score)


def _merged(parts: list[tuple[int, Any]], wanted: int) -> dict[int, Any]:
    """The fields of a message inside a message; of a repeated one the last."""
    return {
        key: value
        for number, message in parts
        if number == wanted
        for key, value in _fields(message)
    }


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a protobuf message: int for varints, bytes for all else."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(message, at)
        elif kind in {1, 5}:
            size = {1: 8, 5: 4}[kind]
        else:
            raise ValueError(f"a field of wire type {kind} at byte {at}")
        if at + size > len(message):
            raise ValueError(f"cut short: {at + size} bytes promised, {len(message)} there")
        yield tag >> 3, message[at : at + size]
        at += size


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
