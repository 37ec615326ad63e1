"""Convert a GGUF file to safetensors, once: loading it takes transformers most of a minute, the result a few seconds.

Three traps (tried with transformers 5.23): a model from GGUF counts as quantised although its weights are whole, and refuses to
be saved; one whose output layer is its embedding comes back with two; and the saved config must not ask for GGUF again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from kpod.runner import StageError

# Above this cosine two matrices are one matrix, quantised twice; unrelated ones are near 0.
_SAME_COSINE = 0.98
_BAR = "Converting and de-quantizing GGUF tensors"


def convert_gguf(path: Path, folder: Path, *, dtype: Literal["fp32", "bf16"]) -> None:
    """Write the model and tokenizer of a GGUF file into a folder, as transformers' files.

    Args:
        path: the file; every weight of it is dequantised.
        folder: exists; takes config.json, model.safetensors and the tokenizer.
        dtype: what the weights are stored in. bf16 rounds a weight by at most 0.4 %, where four bits moved it by several.

    Raises:
        StageError: no GGUF file, or one that transformers cannot read.
    """
    _check_magic(path)
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from kpod.stages._lm.loading import quiet
    from kpod.stages._lm.saving import save_model

    place = {"gguf_file": path.name, "local_files_only": True}
    with quiet(), _without_bars():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **place)
            model: Any = AutoModelForCausalLM.from_pretrained(
                str(path.parent), dtype=torch.float32, **place
            )
        except (ValueError, KeyError, NotImplementedError) as error:
            raise StageError(
                f"{path}: transformers cannot read this GGUF file: {error}\n"
                "use the safetensors checkpoint that it was made from"
            ) from error
        _forget_quantisation(model)
        _tie_if_same(model)
        if dtype == "bf16":
            model.to(torch.bfloat16)
        save_model(model, folder)
        tokenizer.save_pretrained(str(folder))


@contextmanager
def _without_bars() -> Iterator[None]:
    """Hold back the progress bar that transformers draws for GGUF files alone, whatever its settings; show all else."""
    held = StringIO()
    try:
        with redirect_stderr(held):
            yield
    finally:
        lines = held.getvalue().replace("\r", "\n").splitlines(keepends=True)
        sys.stderr.writelines(line for line in lines if line.strip() and _BAR not in line)


def _check_magic(path: Path) -> None:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise StageError(f"{path}: no GGUF file: it begins with {magic!r}; fetch it again")


def _forget_quantisation(model: Any) -> None:
    """The weights are whole by now; what still says otherwise would stop `save_pretrained`."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _tie_if_same(model: Any) -> None:
    """Tie the embedding to the output layer where both are the same matrix; the output layer is the finer copy."""
    import torch

    output, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if output is None or output.weight.shape != embedding.weight.shape:
        return
    is_same = output.weight is embedding.weight or (
        torch.nn.functional.cosine_similarity(
            output.weight.data.flatten(), embedding.weight.data.flatten(), dim=0
        )
        > _SAME_COSINE
    )
    if is_same:
        embedding.weight = output.weight
        model.config.tie_word_embeddings = True
        model.tie_weights()
