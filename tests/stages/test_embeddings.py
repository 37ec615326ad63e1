"""The input-embedding table, read alone from files of every layout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelFiles, ModelSpec
from kpod.stages._lm.embeddings import input_embeddings
from kpod.stages._lm.loading import load_causal_lm
from tests.stages.tiny_models import tiny_files

TABLE = torch.arange(12, dtype=torch.float32).reshape(6, 2)
OTHER = torch.zeros(6, 2)


def files_at(folder: Path) -> ModelFiles:
    spec = ModelSpec(
        architecture="Any", width=2, num_parameters=12, vocab_size=6, precision="fp32", files={}
    )
    return ModelFiles(folder, None, spec, "digest")


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_the_table_is_the_one_that_the_loaded_model_has(architecture: str) -> None:
    files = tiny_files(architecture)  # type: ignore[arg-type]
    model = load_causal_lm(files, precision="fp32", device="cpu")

    assert torch.equal(input_embeddings(files), model.get_input_embeddings().weight)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("model.embed_tokens.weight", "lm_head.weight"),
        ("transformer.wte.weight", "transformer.wpe.weight"),
        ("wte.weight", "wpe.weight"),
        ("shared.weight", "decoder.embed_tokens.weight"),
        ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"),
        ("embeddings.word_embeddings.weight", "embeddings.token_type_embeddings.weight"),
    ],
)
def test_the_table_is_found_under_every_name(tmp_path: Path, name: str, other: str) -> None:
    save_file({other: OTHER, name: TABLE}, tmp_path / "model.safetensors")

    assert torch.equal(input_embeddings(files_at(tmp_path)), TABLE)


def test_the_table_is_found_in_a_sharded_model_whatever_else_is_missing(tmp_path: Path) -> None:
    save_file({"model.embed_tokens.weight": TABLE.to(torch.bfloat16)}, tmp_path / "b.safetensors")
    index = {"weight_map": {"lm_head.weight": "a.safetensors", "model.embed_tokens.weight": "b.safetensors"}}  # fmt: skip
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    table = input_embeddings(files_at(tmp_path))

    assert table.dtype == torch.float32
    assert torch.equal(table, TABLE)


def test_a_model_without_such_a_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"neither model.safetensors nor model.safetensors.index.json"):  # fmt: skip
        input_embeddings(files_at(tmp_path))
    save_file({"visual.patch.weight": TABLE}, tmp_path / "model.safetensors")
    with pytest.raises(StageError, match="none of its 1 tensors is an input embedding"):
        input_embeddings(files_at(tmp_path))
    save_file({"wte.weight": TABLE.to(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(StageError, match=r"wte.weight has the shape \(6, 2\) and the type torch.int8"):  # fmt: skip
        input_embeddings(files_at(tmp_path))
