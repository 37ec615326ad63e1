"""Tokens that stand for text which a tokenizer does not know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages._lm.encoding import Example


class Unknown:
    """Counts the tokens that stand for text that a tokenizer does not know: what is trained there cannot be learned.

    T5's vocabulary has no "<" or "{", a list of words knows no other names. Tokenizers of bytes know everything; some name their
    end token as the unknown one, which counts nothing.

    Args:
        tokenizer: whose.

    Attributes:
        num_unknown, num_tokens: of the sequences that passed.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        used = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id}
        self._id = None if tokenizer.unk_token_id in used else tokenizer.unk_token_id
        self.num_unknown = 0
        self.num_tokens = 0

    @property
    def share(self) -> float:
        """Of all tokens, in [0, 1]."""
        return self.num_unknown / max(self.num_tokens, 1)

    def passed(self, examples: Iterable[Example]) -> Iterator[Example]:
        """The same sequences, counted."""
        for example in examples:
            self.num_tokens += example.num_tokens
            if self._id is not None:
                self.num_unknown += example.prompt_ids.count(self._id)
                self.num_unknown += example.completion.ids.count(self._id)
            yield example
