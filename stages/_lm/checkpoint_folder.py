"""A folder of transformers files, read without torch: what model it is, what counts as its content, what is refused.

Only safetensors are loaded (a pickle can run code), and no code that comes with a model (DESIGN 9).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fnmatch import fnmatch
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelSpec, Precision, file_digests, read_json_object

# Everything that a tokenizer may be made of.
TOKENIZER_FILES = (
    "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "spiece.model", "sentencepiece*.model", "chat_template*",
)  # fmt: skip
# What can change how a model or its tokenizer behaves; a README or another format of the same weights cannot.
_CONTENT = (
    "config.json", "generation_config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES,
)  # fmt: skip
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
_PRECISION_OF: Mapping[str, Precision] = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}


class _Tensors(NamedTuple):
    num_parameters: int
    precision: Precision


def checkpoint_spec(
    folder: Path, *, is_pointer: bool, prompt: Mapping[str, Any] | None = None
) -> ModelSpec:
    """The spec of a folder of transformers files, with the digests of all that counts.

    Raises:
        StageError: no config.json, no safetensors, a missing shard, a quantised checkpoint, an unusual element type,
            or a config that asks for code of its own.
    """
    config = _checked_config(folder)
    weights = _weight_files(folder)
    tensors = _read_tensors(folder, weights)
    names = [
        path.name
        for path in folder.iterdir()
        if path.is_file() and any(fnmatch(path.name, pattern) for pattern in _CONTENT)
    ]
    # A second copy of the weights under another name (consolidated.safetensors) is not loaded and not content.
    names = [name for name in names if not name.endswith(".safetensors") or name in weights]
    return ModelSpec(
        architecture=_architecture(folder, config),
        width=_whole_number(folder, config, "hidden_size", "d_model"),
        num_parameters=tensors.num_parameters,
        vocab_size=_whole_number(folder, config, "vocab_size"),
        precision=tensors.precision,
        files=file_digests(folder, names),
        is_pointer=is_pointer,
        prompt=prompt,
    )


def _checked_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise StageError(
            f"{folder}: no config.json in it, so it is no folder that transformers can load\n"
            "needed: config.json, *.safetensors and the tokenizer's files (what save_pretrained writes, or a hub snapshot)"
        )
    config = read_json_object(path)
    if "auto_map" in config:
        raise StageError(
            f"{path}: the model asks to run code of its own (auto_map), which kpod refuses\n"
            "use a model whose architecture transformers knows by itself"
        )
    if "quantization_config" in config:
        method = dict(config["quantization_config"]).get("quant_method", "unknown")
        raise StageError(
            f"{path}: a quantised checkpoint (method {method}); kpod loads weights in fp32, bf16 or fp16\n"
            "use the checkpoint that it was made from"
        )
    return config


def _architecture(folder: Path, config: Mapping[str, Any]) -> str:
    names = config.get("architectures") or []
    if len(names) != 1:
        raise StageError(
            f"{folder / 'config.json'}: architectures is {names!r}; exactly one name is needed,"
            ' e.g. ["Qwen2ForCausalLM"]'
        )
    return str(names[0])


def _whole_number(folder: Path, config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        if isinstance(config.get(name), int):
            return int(config[name])
    raise StageError(
        f"{folder / 'config.json'}: {' or '.join(names)} is missing; kpod takes plain text models,"
        " whose config has it at the top"
    )


def _weight_files(folder: Path) -> frozenset[str]:
    """Names of the safetensors files that transformers would load."""
    if (folder / "model.safetensors").is_file():
        return frozenset({"model.safetensors"})
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = frozenset(str(name) for name in read_json_object(index)["weight_map"].values())
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
        if missing:
            raise StageError(
                f"{folder}: {len(missing)} of {len(shards)} weight files are missing: {', '.join(missing[:5])}\n"
                "fetch the folder again; a download may have been cut off"
            )
        return shards
    pickles = sorted(
        path.name
        for path in folder.iterdir()
        if any(fnmatch(path.name, pattern) for pattern in _PICKLES)
    )
    found = f"it has {', '.join(pickles[:5])}, but " if pickles else ""
    raise StageError(
        f"{folder}: {found}no model.safetensors; kpod loads only safetensors, because other formats can run code\n"
        "save it again with model.save_pretrained(folder), which writes safetensors"
    )


def _read_tensors(folder: Path, names: frozenset[str]) -> _Tensors:
    """Number of parameters and the element type most of them have, from the files' headers."""
    count_of: dict[str, int] = {}
    for name in sorted(names):
        for tensor in _safetensors_header(folder / name).values():
            kind = str(tensor["dtype"])
            count_of[kind] = count_of.get(kind, 0) + prod(tensor["shape"])
    commonest = max(count_of, key=lambda kind: count_of[kind], default="nothing")
    if commonest not in _PRECISION_OF:
        raise StageError(
            f"{folder}: its weights are stored as {commonest}; kpod loads {', '.join(_PRECISION_OF)}\n"
            "use the checkpoint that it was made from"
        )
    return _Tensors(sum(count_of.values()), _PRECISION_OF[commonest])


def _safetensors_header(path: Path) -> dict[str, Any]:
    """Names, types and shapes of a safetensors file.

    Source: the format's description: 8 bytes of length, little endian, then that many bytes of JSON.
    """
    size_b = path.stat().st_size
    with path.open("rb") as file:
        length_b = int.from_bytes(file.read(8), "little")
        if size_b < 8 or length_b > size_b - 8:
            raise StageError(
                f"{path}: cut short or no safetensors file ({size_b} bytes); fetch it again"
            )
        try:
            header = json.loads(file.read(length_b))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise StageError(f"{path}: no safetensors file ({error}); fetch it again") from error
    _check_length(path, size_b - 8 - length_b, header)
    return {name: tensor for name, tensor in header.items() if name != "__metadata__"}


def _check_length(path: Path, data_b: int, header: Mapping[str, Any]) -> None:
    """The file holds all the bytes that its header promises."""
    needed_b = max(
        (tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"),
        default=0,
    )
    if data_b < needed_b:
        raise StageError(
            f"{path}: cut short: {data_b} bytes of weights of {needed_b}; fetch it again"
        )
