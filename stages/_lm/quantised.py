"""Weights held in 4 or 8 bits, by bitsandbytes.

nf4: 4-bit NormalFloat in blocks of 64 with double quantisation, Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), section 3.
int8: vector-wise 8-bit products with outlier columns kept apart, Dettmers et al. 2022 (LLM.int8, arXiv 2208.07339), section 3;
which columns are outliers depends on all rows of a batch, so that texts may differ with the batch.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kpod.runner import Doc, MissingExtra, StageError
from kpod.stages._lm.family import CAUSAL_ENDINGS

if TYPE_CHECKING:
    import torch

    from kpod.stages._lm.artifact import ModelFiles

Quantisation = Literal["none", "nf4", "int8"]
QuantisationSetting = Annotated[
    Quantisation,
    Doc(
        "Weights held in 4 bits (nf4) or 8 (int8) and computed with in `precision`: less memory, and somewhat other texts; "
        "on a CPU it costs time."
    ),
]

# bitsandbytes says so at every product of an 8-bit layer: it rounds what comes in to fp16 first, as the paper does.
_HARMLESS = "MatMul8bitLt: inputs will be cast from"


def check_quantisable(files: ModelFiles, quantisation: Quantisation) -> None:
    """Whether this model can be held so, here.

    Raises:
        StageError: it is no causal language model: T5's layers are read at their full width by transformers.
        MissingExtra: bitsandbytes is not installed.
    """
    if quantisation == "none":
        return
    if not files.spec.architecture.endswith(CAUSAL_ENDINGS):
        raise StageError(
            f"quantisation is {quantisation}, but {files.spec.architecture} is no causal language model\n"
            "allowed for it: quantisation: none"
        )
    if find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", extra="cuda", needed_by=f"quantisation: {quantisation}")


def quantised_config(quantisation: Quantisation, *, dtype: torch.dtype) -> Any:
    """What transformers is told when it loads the weights; None where they stay as they are.

    Args:
        quantisation: how weights are held.
        dtype: what is computed in.
    """
    if quantisation == "none":
        return None
    from transformers import BitsAndBytesConfig

    if quantisation == "int8":
        logging.getLogger("bitsandbytes.autograd._functions").addFilter(_is_news)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_HARMLESS)
