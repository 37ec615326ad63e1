"""A tokenizer made from a list of words, so that a tiny model needs no download: one word or sign, one token.

"Q: Tom has 12 + 7 = 19 apples." becomes Q: | Tom | has | 12 | + | 7 | = | 19 | apples | . and decodes to the same text.
White space separates and is not kept: every gap reads as one space, and signs stand as English sets them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kpod.runner import StageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, UNKNOWN, END = "<pad>", "<unk>", "<end>"

_SIGNS = r".,?!;+\-*/=():%$"
# In this order: the marks of a question and an answer; numbers such as 3.5 and 1,200; one sign; a word, apostrophes included.
_PIECE = rf"[QA]:|[0-9]+(?:[.,][0-9]+)+|[{_SIGNS}]|[^\s{_SIGNS}]+"
# What is deleted from the tokens joined by spaces: before closing signs, after opening ones, after the minus of a number.
_GAPS = (r" (?=[.,?!;:%)])", r"(?<=[($]) ", r"(?<=[=+*/] -) (?=[0-9])", r"(?<=\(-) (?=[0-9])")


def word_tokenizer(words: Sequence[str], *, max_tokens: int) -> PreTrainedTokenizerFast:
    """The tokenizer of these words; ids follow their order, after <pad>, <unk> and <end>.

    Args:
        words: words, numbers and signs, each once.
        max_tokens: longest text the model takes.

    Raises:
        StageError: a word stands twice, or white space or a sign inside it would split it, so that it could never match.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.Split(Regex(_PIECE), behavior="removed", invert=True)
    _check_words(words, splitter)
    vocabulary = {word: i for i, word in enumerate((PAD, UNKNOWN, END, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = splitter
    # The WordPiece decoder puts a space before every token but the first; no word begins with its prefix.
    spaced = decoders.WordPiece(prefix="\x00", cleanup=False)
    closed = [decoders.Replace(Regex(gap), "") for gap in _GAPS]
    tokenizer.decoder = decoders.Sequence([spaced, decoders.Fuse(), *closed])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        eos_token=END,
        model_max_length=max_tokens,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _check_words(words: Sequence[str], splitter: Any) -> None:
    seen = {PAD, UNKNOWN, END}
    for word in words:
        if word in seen:
            raise StageError(f"word list: {word!r} stands in it twice; every word needs one line")
        pieces = [piece for piece, _ in splitter.pre_tokenize_str(word)]
        if pieces != [word]:
            raise StageError(
                f"word list: {word!r} is read as {len(pieces)} tokens ({' '.join(pieces)}), so it can never match\n"
                "write its parts on lines of their own"
            )
        seen.add(word)
