"""The two families of language models: those that continue their prompt, and those whose encoder reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kpod.runner import StageError

if TYPE_CHECKING:
    from kpod.stages._lm.artifact import ModelSpec

Family = Literal["causal", "seq2seq"]

# Encoder-decoders of text, by transformers' names: each was tried with the engine (tests/stages/test_seq2seq_generation.py).
# The ending ForConditionalGeneration alone does not tell: image and speech models bear it too.
SEQ2SEQ_ARCHITECTURES = (
    "T5ForConditionalGeneration",
    "MT5ForConditionalGeneration",
    "UMT5ForConditionalGeneration",
    "BartForConditionalGeneration",
)
CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")


def family(spec: ModelSpec) -> Family:
    """Whether a model continues its prompt (causal) or answers what an encoder has read (seq2seq).

    Raises:
        StageError: kpod knows no such architecture.
    """
    name = spec.architecture
    if name in SEQ2SEQ_ARCHITECTURES:
        return "seq2seq"
    if name.endswith(CAUSAL_ENDINGS):
        return "causal"
    raise StageError(
        f"architecture {name} is no language model that kpod knows\n"
        f"allowed: one like LlamaForCausalLM or Qwen3ForCausalLM, or {', '.join(SEQ2SEQ_ARCHITECTURES)}"
    )
