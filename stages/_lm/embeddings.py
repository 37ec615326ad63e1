"""The input-embedding table of a model, read alone from its files: the rest of the model is never loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kpod.runner import StageError
from kpod.stages._lm.artifact import read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import torch

    from kpod.stages._lm.artifact import ModelFiles

# What transformers calls the table: T5 and BART shared; LLaMA, Qwen and most others embed_tokens; GPT-2 wte; BERT the last.
_NAMES = ("shared.weight", "embed_tokens.weight", "wte.weight", "word_embeddings.weight")


def input_embeddings(files: ModelFiles) -> torch.Tensor:
    """The vectors that a model gives to its tokens.

    Args:
        files: as `locate` found them; an adapter of kpod adapts linear layers only, so its base's table is its own.

    Returns:
        (V, D) float32 on the CPU; V may be more than the tokenizer has.

    Raises:
        StageError: no tensor has the name of an input embedding, or it is no table.
    """
    import torch
    from safetensors import safe_open

    file_of = _tensor_files(files.weights)
    name = _table_name(file_of)
    if name is None:
        raise StageError(
            f"{files.weights}: none of its {len(file_of)} tensors is an input embedding"
            f" ({', '.join(f'*{known}' for known in _NAMES)})\n"
            "use a model of an architecture that names it so, like Qwen3, LLaMA, GPT-2, T5 or BERT"
        )
    opened: Any = safe_open(files.weights / file_of[name], framework="pt")
    with opened as tensors:
        table_VD: torch.Tensor = tensors.get_tensor(name)
    if table_VD.dim() != 2 or not table_VD.is_floating_point():
        raise StageError(
            f"{files.weights}: {name} has the shape {tuple(table_VD.shape)} and the type {table_VD.dtype};"
            " needed: a table of numbers, tokens by width\nuse the checkpoint before it was quantised"
        )
    return table_VD.to(torch.float32)


def _tensor_files(folder: Path) -> Mapping[str, str]:
    """The file that each tensor of a model lies in, from the index of a sharded one or the only file's header."""
    from safetensors import safe_open

    whole = folder / "model.safetensors"
    if whole.is_file():
        opened: Any = safe_open(whole, framework="pt")
        with opened as tensors:
            return dict.fromkeys(tensors.keys(), whole.name)
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise StageError(
            f"{folder}: neither {whole.name} nor {index.name} in it\n"
            "save the model there as safetensors: model.save_pretrained(folder)"
        )
    return {str(name): str(file) for name, file in read_json_object(index)["weight_map"].items()}


def _table_name(names: Iterable[str]) -> str | None:
    """The tensor that is the input embedding; an encoder's before a decoder's, where both keep their own."""
    found = [
        (rank, "decoder" in name, name)
        for name in names
        for rank, known in enumerate(_NAMES)
        if name == known or name.endswith(f".{known}")
    ]
    return min(found)[-1] if found else None
