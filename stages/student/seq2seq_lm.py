"""Train an encoder-decoder student (the Flan-T5 family) on verified rationales, or on answers alone.

As student.causal_lm, with the question in the encoder and the rationale in the decoder. Steps that a curriculum gives go
to the encoder, after the question (KPOD Fig. 1: question and steps 1 to c under Input, the rest under Output). fp16 is not
offered: T5's feed-forward layers overflow in it (transformers issue 9295).
"""

from __future__ import annotations

from kpod.stages.student._settings import Config
from kpod.stages.student._student import Student


class Seq2SeqLm(Student):
    """An encoder-decoder trained on the questions that have a verified rationale."""

    uses = "student.seq2seq_lm"
    version = 4

    @classmethod
    def version_of(cls, config: Config) -> int | None:
        """As of student.causal_lm; all that trains whole comes out as under version 1."""
        if config.method == "full":
            return 1
        return 3 if config.computes_in_bf16 else cls.version
