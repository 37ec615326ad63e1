"""Weights held in 4 or 8 bits, by bitsandbytes.

nf4: 4-bit NormalFloat in blocks of 64, Dettmers et al. 2023 (QLoRA, arXiv 2305.14314), section 3; its scales may be quantised
too (double quantisation), as it is done wherever a model only writes.
int8: vector-wise 8-bit products with outlier columns kept apart, Dettmers et al. 2022 (LLM.int8, arXiv 2208.07339), section 3;
which columns are outliers depends on all rows of a batch, so that texts may differ with the batch.
"""

from __future__ import annotations

import logging
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kpod.runner import Doc, MissingExtra, StageError
from kpod.stages._lm.artifact import read_json_object
from kpod.stages._lm.family import CAUSAL_ENDINGS

if TYPE_CHECKING:
    from pathlib import Path

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

# Output rows that bitsandbytes' kernel for CPUs with avx512_bf16 takes at a time (`block_n` of its packing, 0.50.2).
_FUSED_ROWS = 32


def check_quantisable(
    files: ModelFiles, quantisation: str, *, setting: str = "quantisation", instead: str = "none"
) -> None:
    """Whether this model can be held so, here.

    Args:
        files: of the model.
        quantisation: how its weights are to be held; `none` always can be.
        setting: what the recipe calls it.
        instead: what is allowed where it cannot.

    Raises:
        StageError: it is no causal language model: T5's layers are read at their full width by transformers. Or it is a
            DoRA beside 8-bit weights: peft 0.21 reads their length anew at every product and on a CPU loses their scales.
        MissingExtra: bitsandbytes is not installed.
    """
    if quantisation == "none":
        return
    if not files.spec.architecture.endswith(CAUSAL_ENDINGS):
        raise StageError(
            f"{setting} is {quantisation}, but {files.spec.architecture} is no causal language model\n"
            f"allowed for it: {setting}: {instead}"
        )
    if quantisation == "int8" and files.adapter is not None and _is_dora(files.adapter):
        raise StageError(
            f"{setting} is int8, but the adapter is a DoRA, for which peft loses the scales of 8-bit weights\n"
            f"allowed for it: {setting}: {instead} or nf4"
        )
    if find_spec("bitsandbytes") is None:
        raise MissingExtra("bitsandbytes", needed_by=f"{setting}: {quantisation}")


def _is_dora(adapter: Path) -> bool:
    return bool(read_json_object(adapter / "adapter_config.json").get("use_dora"))


def quantised_config(
    quantisation: Quantisation, *, dtype: torch.dtype, is_double: bool = True
) -> Any:
    """What transformers is told when it loads the weights; None where they stay as they are.

    Args:
        quantisation: how weights are held.
        dtype: what is computed in.
        is_double: whether the scales of nf4 are quantised too: 0.37 bits a weight less (QLoRA, section 3).
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
        bnb_4bit_use_double_quant=is_double,
        bnb_4bit_compute_dtype=dtype,
    )


def _is_news(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_HARMLESS)


def keep_to_precision(model: Any, dtype: torch.dtype) -> None:
    """Let 4-bit layers on a CPU compute in the type that was asked for, in place.

    On a CPU with avx512_bf16, bitsandbytes 0.50 packs 4-bit weights anew for a kernel that rounds inputs and scales to bf16,
    whatever was asked for, and fails where a layer's width is no multiple of a block (64) or its output none of 32. The
    kernel is left on where bf16 is what was asked for and the layer fits it: there it is the fast way to write texts.
    """
    import torch

    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            fits = (
                module.in_features % module.weight.quant_state.blocksize == 0
                and module.out_features % _FUSED_ROWS == 0
            )
            module.support_avx512bf16_for_cpu &= fits and dtype == torch.bfloat16


def make_trainable(model: Any) -> None:
    """Make a model with quantised weights ready for an adapter, in place: nothing of its own trains, norms compute in fp32.

    Norms give back the type that they were given, so that what follows needs no autocast; embedding and output layer stay in
    the type they were loaded in (peft would make them fp32, which at a vocabulary of 151,936 costs more than 4 bits save).
    On a CPU with avx512_bf16, bitsandbytes packs 4-bit weights anew once a model only reads (eval mode), and packed ones give
    no gradient: that is switched off.
    """
    import torch

    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
            continue
        own = [value for value in module.parameters(recurse=False) if value.dtype != torch.float32]
        for parameter in own:
            parameter.data = parameter.data.float()
        if own:
            module.register_forward_hook(_in_the_type_given)


def _in_the_type_given(_: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    return output.to(inputs[0].dtype)
