"""Load a model and its tokenizer, every setting that bears on results said out loud, and nothing fetched.

transformers takes the precision from the checkpoint, and sampling settings from `generation_config.json`, unless told
otherwise; both are set here. Source: PRACTICE 1 (rows 4, 5, 9, 16) and 2.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from kpod.runner import StageError
from kpod.stages._lm.family import CAUSAL_ENDINGS
from kpod.stages._lm.family import Family as Family
from kpod.stages._lm.family import family as family
from kpod.stages._lm.hardware import Hardware as Hardware
from kpod.stages._lm.hardware import pick_device as pick_device
from kpod.stages._lm.hardware import set_threads as set_threads
from kpod.stages._lm.limits import Limits as Limits
from kpod.stages._lm.limits import longest_trained as longest_trained
from kpod.stages._lm.limits import read_limits as read_limits
from kpod.stages._lm.merging import LEAST_KEPT_FRAC, kept_frac
from kpod.stages._lm.quantised import (
    Quantisation,
    check_quantisable,
    keep_to_precision,
    quantised_config,
)
from kpod.stages._lm.quiet import quiet as quiet
from kpod.stages._lm.sentencepiece_file import t5_tokenizer_of_folder

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from kpod.stages._lm.artifact import ModelFiles

# Never fp16: Flan-T5's activations overflow in it (KPOD 8.1, 12).
LoadPrecision = Literal["fp32", "bf16"]

# A folder with none of these has no tokenizer.
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_PAD_CANDIDATES = (
    "<pad>",
    "<|endoftext|>",
    "<|finetune_right_pad_id|>",
    "<|pad|>",
    "[PAD]",
    "<unk>",
)


def load_tokenizer(files: ModelFiles) -> PreTrainedTokenizerBase:
    """The tokenizer of a model, padding on the left, its pad token apart from the end token where it has one to spare.

    Raises:
        StageError: there is none in the folder, or it has no end token.
    """
    return tokenizer_of_folder(files.weights)


def tokenizer_of_folder(folder: Path) -> PreTrainedTokenizerBase:
    """As `load_tokenizer`, from a folder of transformers files."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise StageError(
            f"{folder}: no tokenizer in it, none of {', '.join(_VOCABULARIES)}\n"
            "save the tokenizer there: tokenizer.save_pretrained(folder)"
        )
    tokenizer: PreTrainedTokenizerBase
    if (folder / "spiece.model").is_file() and not (folder / "tokenizer.json").is_file():
        tokenizer = t5_tokenizer_of_folder(folder)
    else:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
    if tokenizer.eos_token_id is None:
        raise StageError(
            f"{folder}: the tokenizer names no end token (eos_token), so no text would ever end\n"
            "name one in tokenizer_config.json"
        )
    tokenizer.padding_side = "left"
    _choose_pad_token(tokenizer)
    return tokenizer


def _choose_pad_token(tokenizer: Any) -> None:
    """Give the tokenizer a pad token other than its end token, if its vocabulary has one (PRACTICE 1, row 4).

    Nothing of kpod reads a label or a mask from the pad id, so sharing it with the end token is harmless where no other is there.
    """
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id != tokenizer.eos_token_id:
        return
    vocabulary = tokenizer.get_vocab()
    spare = (name for name in _PAD_CANDIDATES if name in vocabulary and name != tokenizer.eos_token)
    tokenizer.pad_token = next(spare, tokenizer.eos_token)


def load_lm(
    files: ModelFiles,
    *,
    precision: LoadPrecision,
    device: str,
    merge: bool = True,
    quantisation: Quantisation = "none",
) -> PreTrainedModel:
    """A model of either family; else as `load_causal_lm`.

    Args:
        files: as `locate` found them.
        precision: what it computes in.
        device: as torch names it.
        merge: add an adapter into the weights; never done to quantised ones, beside which it stays as it is, nor where
            rounding the weights to bf16 would lose more than a twentieth of it (`merging.kept_frac`).
        quantisation: how weights are held.

    Raises:
        StageError: the architecture is of neither family, or transformers does not know it, or it cannot be quantised.
    """
    if quantisation != "none":
        check_quantisable(files, quantisation)
        return load_quantised(files, quantisation, precision=precision, device=device)
    return _load(files, precision=precision, device=device, merge=merge)


def load_causal_lm(
    files: ModelFiles, *, precision: LoadPrecision, device: str, merge: bool = True
) -> PreTrainedModel:
    """The model in this precision on this device, in eval mode, its adapter applied, generation plain greedy.

    Args:
        files: as `locate` found them.
        precision: what it computes in, whatever it is stored in.
        device: as torch names it, e.g. "cpu" or "cuda:0".
        merge: add an adapter into the weights (to generate), as in `load_lm`; False keeps it apart (to train on).

    Returns:
        A transformers model; a peft model around it where there is an adapter that is not merged.

    Raises:
        StageError: the architecture is no causal language model that transformers knows.
    """
    if not files.spec.architecture.endswith(CAUSAL_ENDINGS):
        raise _unknown_class(files)
    return _load(files, precision=precision, device=device, merge=merge)


def _load(
    files: ModelFiles, *, precision: LoadPrecision, device: str, merge: bool
) -> PreTrainedModel:
    import torch

    is_seq2seq = family(files.spec) == "seq2seq"
    model_class = _model_class(files)
    dtype = _dtype(precision)
    # An adapter is added to its base in fp32, so that the sum is rounded once.
    is_merged = files.adapter is not None and merge
    with quiet():
        model: Any = model_class.from_pretrained(
            str(files.weights),
            dtype=torch.float32 if is_merged else dtype,
            local_files_only=True,
            use_safetensors=True,
        )
        if is_seq2seq:
            _say_whether_tied(model)
        if files.adapter is not None:
            model = _with_adapter(model, files)
    if is_merged:
        if dtype != torch.float32 and kept_frac(model, dtype) < LEAST_KEPT_FRAC:
            del model
            return _load(files, precision=precision, device=device, merge=False)
        with quiet():
            model = model.merge_and_unload()
        _cast_parameters(model, dtype)
    reset_generation(model)
    found: PreTrainedModel = model.to(device).eval()
    return found


def load_quantised(
    files: ModelFiles,
    quantisation: Quantisation,
    *,
    precision: LoadPrecision,
    device: str,
    is_double: bool = True,
) -> PreTrainedModel:
    """As `load_lm` with weights in 4 or 8 bits, in eval mode; an adapter stays beside them.

    An adapter that was trained beside quantised weights is usually evaluated merged into those of full precision (`load_lm`
    without quantisation), as is common practice; this holds the base as training did.

    Args:
        files: of a model that `check_quantisable` accepts.
        quantisation: how weights are held; embedding, norms and output layer stay in `precision`.
        precision: what the model computes in.
        device: as torch names it; the whole model lies there.
        is_double: whether the scales of nf4 are quantised too.
    """
    import torch

    dtype = _dtype(precision)
    # Quantised as they arrive, on the device where they stay: 8-bit weights cannot be moved afterwards.
    with quiet(), torch.device(device):
        model: Any = _model_class(files).from_pretrained(
            str(files.weights),
            dtype=dtype,
            quantization_config=quantised_config(quantisation, dtype=dtype, is_double=is_double),
            # Never "auto": a model that is spread over devices cannot be trained by several processes (PRACTICE 1, row 8).
            device_map={"": device if ":" in device else torch.empty(0).device},
            local_files_only=True,
            use_safetensors=True,
        )
        if model.device.type != torch.device(device).type:
            raise StageError(
                f"placement.device is {device}, but bitsandbytes took {model.device} for quantised weights\n"
                "set placement.default.device to it, hide it with CUDA_VISIBLE_DEVICES, or leave quantisation out"
            )
        if files.adapter is not None:
            model = _with_adapter(model, files)
    keep_to_precision(model, dtype)
    reset_generation(model)
    found: PreTrainedModel = model.eval()
    return found


def _dtype(precision: LoadPrecision) -> torch.dtype:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]


def _model_class(files: ModelFiles) -> Any:
    import transformers

    found = getattr(transformers, files.spec.architecture, None)
    if found is None:
        raise _unknown_class(files)
    return found


def _unknown_class(files: ModelFiles) -> StageError:
    import transformers

    return StageError(
        f"{files.weights}: architecture {files.spec.architecture} is no causal language model that transformers"
        f" {transformers.__version__} knows\nneeded: one like LlamaForCausalLM or Qwen3ForCausalLM"
    )


def _say_whether_tied(model: Any) -> None:
    """Let the config say whether output layer and embedding are one, so that the model is saved as it is.

    transformers 5.23 claims for every T5 that they are; in Flan-T5 they are two.
    """
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.config.tie_word_embeddings = is_tied


def _with_adapter(model: Any, files: ModelFiles) -> Any:
    from peft import PeftModel

    with quiet():
        return PeftModel.from_pretrained(model, str(files.adapter), is_trainable=True)


def _cast_parameters(model: Any, dtype: torch.dtype) -> None:
    """Parameters in this type; buffers stay, because rotary frequencies must be fp32 (as from_pretrained leaves them)."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype


def reset_generation(model: Any) -> None:
    """Forget the sampling settings that came with a checkpoint: greedy, repetition penalty 1 (PRACTICE 1, row 9)."""
    from transformers import GenerationConfig

    kept = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=kept.bos_token_id,
        eos_token_id=kept.eos_token_id,
        pad_token_id=kept.pad_token_id,
        decoder_start_token_id=kept.decoder_start_token_id,
    )
