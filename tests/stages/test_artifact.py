"""Model folders: spec, digests, pointers, adapters, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kpod.runner import Input, Model, Stage, StageError
from kpod.stages._lm.artifact import (
    SPEC_NAME,
    ModelSpec,
    file_digest,
    folder_digests,
    locate,
    read_spec,
    write_spec,
)
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages.teacher.local import Config
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model


class _Reader(Stage[Config]):
    model = Input(Model)


SPEC = ModelSpec(
    architecture="Qwen3ForCausalLM", width=8, num_parameters=100, vocab_size=16, precision="bf16",
    files={"model.safetensors": "ab", "config.json": "cd"}, prompt={"name": "cot"}, trained_by={"steps": 4},
)  # fmt: skip


def _copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model(), tmp_path / "copy"))


def test_a_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)

    assert read_spec(tmp_path) == SPEC


def test_a_spec_is_written_with_sorted_keys_and_one_newline(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)
    text = (tmp_path / SPEC_NAME).read_text()

    assert text == json.dumps(json.loads(text), sort_keys=True, indent=2) + "\n"


def test_a_folder_without_a_spec_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"no model\.json in it.*\ntake a folder .* model\.pretrained"
    ):
        read_spec(tmp_path)


def test_a_spec_of_another_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / SPEC_NAME).write_text('{"format": 2}')

    with pytest.raises(StageError, match="its format is 2; this kpod reads format 1"):
        read_spec(tmp_path)


def test_a_spec_with_an_unknown_entry_is_refused_by_name(tmp_path: Path) -> None:
    write_spec(tmp_path, SPEC)
    row = json.loads((tmp_path / SPEC_NAME).read_text())
    (tmp_path / SPEC_NAME).write_text(json.dumps({**row, "colour": "red"}))

    with pytest.raises(StageError, match="unknown or missing entries: colour"):
        read_spec(tmp_path)


def test_the_spec_of_a_checkpoint_counts_its_parameters_and_digests_its_files() -> None:
    folder = tiny_model()
    spec = checkpoint_spec(folder, is_pointer=False)

    assert (spec.architecture, spec.width, spec.precision) == ("Qwen3ForCausalLM", 32, "fp32")
    assert spec.files == folder_digests(folder)
    assert spec.files["config.json"] == file_digest(folder / "config.json")
    # Embedding (tied), and per layer: q, k, v, o, three feed-forward matrices, two norms, q and k norms; one last norm.
    per_layer = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 64 + 2 * 32 + 2 * 8
    assert spec.num_parameters == spec.vocab_size * 32 + 2 * per_layer + 32


def test_files_that_cannot_change_the_model_are_no_content(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "README.md").write_text("hello")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "consolidated.safetensors").write_bytes(b"another copy")

    assert checkpoint_spec(folder, is_pointer=False) == checkpoint_spec(
        tiny_model(), is_pointer=False
    )


def test_a_pickle_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(
        StageError,
        match=r"it has pytorch_model\.bin, but no model\.safetensors; kpod loads only safetensors",
    ):
        checkpoint_spec(folder, is_pointer=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "modeling_x.X"}}, r"asks to run code of its own \(auto_map\)"),
        (
            {"quantization_config": {"quant_method": "gptq"}},
            r"quantised checkpoint \(method gptq\)",
        ),
        ({"architectures": []}, r"architectures is \[\]; exactly one name is needed"),
        ({"hidden_size": None}, "hidden_size or d_model is missing"),
    ],
)
def test_a_config_that_kpod_cannot_take_is_refused(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    folder = _copy(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **change}))

    with pytest.raises(StageError, match=message):
        checkpoint_spec(folder, is_pointer=True)


def test_a_folder_without_config_says_what_a_model_folder_holds(tmp_path: Path) -> None:
    with pytest.raises(
        StageError, match=r"no config\.json in it.*\nneeded: config\.json, \*\.safetensors"
    ):
        checkpoint_spec(tmp_path, is_pointer=True)


@pytest.mark.parametrize("kept_b", [4, 60, 2000, 10_000])
def test_weights_cut_short_are_refused(tmp_path: Path, kept_b: int) -> None:
    folder = _copy(tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept_b])

    with pytest.raises(StageError, match=r"model\.safetensors: .*fetch it again"):
        checkpoint_spec(folder, is_pointer=True)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = _copy(tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {
        "weight_map": {
            "a": "model-00001-of-00002.safetensors",
            "b": "model-00002-of-00002.safetensors",
        }
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(
        StageError, match=r"1 of 2 weight files are missing: model-00002-of-00002\.safetensors"
    ):
        checkpoint_spec(folder, is_pointer=True)


def test_a_pointer_is_followed_to_its_files(tmp_path: Path) -> None:
    write_spec(tmp_path, checkpoint_spec(tiny_model(), is_pointer=True))
    ctx = FakeContext(config=Config(), models={"model": tmp_path})
    ctx.points[str(tmp_path)] = tiny_model()

    files = locate(ctx, _Reader.model)

    assert (files.weights, files.adapter, files.digest) == (
        tiny_model(),
        None,
        ctx.digest(_Reader.model),
    )


def test_a_pointer_whose_files_are_gone_names_them(tmp_path: Path) -> None:
    write_spec(tmp_path, checkpoint_spec(tiny_model(), is_pointer=True))
    ctx = FakeContext(config=Config(), models={"model": tmp_path})
    ctx.points[str(tmp_path)] = tmp_path

    with pytest.raises(StageError, match=r"5 of 5 files of the model are gone: config\.json"):
        locate(ctx, _Reader.model)


def test_an_adapter_is_found_with_the_base_that_it_names_by_content(tmp_path: Path) -> None:
    write_spec(tmp_path, ModelSpec(
        architecture="Qwen3ForCausalLM", width=32, num_parameters=1, vocab_size=9, precision="fp32", files={}, base="b4se",
    ))  # fmt: skip
    ctx = FakeContext(config=Config(), models={"model": tmp_path}, artifacts={"b4se": tiny_model()})

    files = locate(ctx, _Reader.model)

    assert (files.weights, files.adapter) == (tiny_model(), tmp_path)


def test_an_adapter_of_an_adapter_is_refused(tmp_path: Path) -> None:
    write_spec(tmp_path, ModelSpec(
        architecture="Qwen3ForCausalLM", width=32, num_parameters=1, vocab_size=9, precision="fp32", files={}, base="b4se",
    ))  # fmt: skip
    ctx = FakeContext(config=Config(), models={"model": tmp_path}, artifacts={"b4se": tmp_path})

    with pytest.raises(StageError, match="an adapter of an adapter"):
        locate(ctx, _Reader.model)
