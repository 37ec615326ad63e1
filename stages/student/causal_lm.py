"""Train a decoder-only student (Qwen, Llama, SmolLM, …) on verified rationales, or on answers alone.

Without weights and curriculum this is standard chain-of-thought distillation, Eq. 1 of KPOD: the negative log-likelihood
of rationale, answer and end token, given the question. With both it is KPOD's Eq. 15: each token of a rationale counts by
its weight, and at each epoch the steps that the curriculum gives are read only; the answer weighs 1 in every epoch.
"""

from __future__ import annotations

from kpod.stages.student._settings import Config
from kpod.stages.student._student import Student


class CausalLm(Student):
    """A language model trained on the questions that have a verified rationale."""

    uses = "student.causal_lm"
    version = 5

    @classmethod
    def version_of(cls, config: Config) -> int | None:
        """Version 5 changed what trains adapters, 4 what computes in bf16 or drops out; the rest is as under version 2."""
        if config.method == "lora":
            return cls.version
        return 4 if config.computes_in_bf16 or config.lora.dropout else 2
