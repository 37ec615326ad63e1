"""Models with an encoder: made from settings, taken in from a folder, loaded, adapted, saved."""

from __future__ import annotations

import json
import shutil
import typing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import SettingError, StageError
from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages._lm.decoder_steps import decoder_start_id
from kpod.stages._lm.loading import (
    LoadPrecision,
    load_causal_lm,
    load_lm,
    load_tokenizer,
    longest_trained,
    read_limits,
)
from kpod.stages._lm.saving import save_model
from kpod.stages.model import from_config, pretrained
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model, tiny_words

INPUTS = {
    "input_ids": torch.tensor([[7, 8, 9, 10, 2]]),
    "decoder_input_ids": torch.tensor([[0, 11, 12]]),
}
TINY = from_config.Config(
    architecture="t5", width=16, layers=1, heads=2, ff_width=24, max_positions=32, words=str(tiny_words())
)  # fmt: skip


def _made(root: Path, config: from_config.Config, *, seed: int = 0) -> ModelFiles:
    sources = {"words": tiny_words()}
    if config.tokenizer is not None:
        sources = {"tokenizer": Path(config.tokenizer)}
    ctx = FakeContext(config=config, sources=sources, seed=seed, root=root)
    from_config.FromConfig().run(ctx)
    folder = ctx.folders["model"]
    return ModelFiles(folder, None, read_spec(folder), "made")


def _said(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(**INPUTS).logits
    return logits


def _model(files: ModelFiles, precision: LoadPrecision = "fp32") -> Any:
    return load_lm(files, precision=precision, device="cpu")


def _adapter(files: ModelFiles, folder: Path) -> ModelFiles:
    """The model with an adapter whose matrices are all random, as peft saves it."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=4, target_modules=["q", "v", "wi_0"], task_type="SEQ_2_SEQ_LM", init_lora_weights=False
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        get_peft_model(_model(files), config).save_pretrained(str(folder))
    return files._replace(adapter=folder)


@pytest.mark.parametrize("is_tied", [True, False])
def test_the_same_settings_and_seed_make_the_same_bytes(tmp_path: Path, is_tied: bool) -> None:
    config = replace(TINY, tie_embeddings=is_tied)

    one, two = (_made(tmp_path / name, config).weights for name in ("one", "two"))

    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_a_t5_has_the_shape_of_flan_t5(tmp_path: Path) -> None:
    files = _made(tmp_path, replace(TINY, tie_embeddings=False))
    config = json.loads((files.weights / "config.json").read_text())

    # The entries of google/flan-t5's config.json that are not sizes.
    expected = {
        "architectures": ["T5ForConditionalGeneration"],
        "feed_forward_proj": "gated-gelu",
        "is_gated_act": True,
        "dense_act_fn": "gelu_new",
        "tie_word_embeddings": False,
        "is_encoder_decoder": True,
        "relative_attention_num_buckets": 32,
        "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
    }
    tokens = {"pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 2}
    assert {name: config[name] for name in expected} == expected
    assert {name: config[name] for name in tokens} == tokens
    assert (files.spec.width, config["n_positions"]) == (16, 32)
    assert decoder_start_id(_model(files)) == 0


def test_init_range_scales_every_matrix_and_no_norm(tmp_path: Path) -> None:
    usual, twice = (
        _model(_made(tmp_path / str(init), replace(TINY, tie_embeddings=False, init_range=init)))
        for init in (0.02, 0.04)
    )

    for (name, one), two in zip(usual.named_parameters(), twice.parameters(), strict=True):
        factor = 1 if "layer_norm" in name else 2
        assert torch.allclose(one * factor, two), name


@pytest.mark.parametrize("is_tied", [True, False])
def test_output_layer_and_embedding_are_one_where_the_settings_say_so(
    tmp_path: Path, is_tied: bool
) -> None:
    files = _made(tmp_path / "made", replace(TINY, tie_embeddings=is_tied))

    model = _model(files)
    (tmp_path / "saved").mkdir()
    save_model(model, tmp_path / "saved")
    again = _model(files._replace(weights=tmp_path / "saved"))

    assert (model.lm_head.weight is model.shared.weight) == is_tied
    assert (again.lm_head.weight is again.shared.weight) == is_tied
    # T5 scales what goes into a tied output layer, and only that.
    assert (model.config.scale_decoder_outputs, again.config.scale_decoder_outputs) == (
        is_tied,
    ) * 2
    assert torch.equal(_said(model), _said(again))
    assert again.config.tie_word_embeddings == is_tied


def test_loading_an_untied_t5_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    _model(_made(tmp_path, replace(TINY, tie_embeddings=False)))

    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("kv_heads", [1])
def test_fewer_key_heads_are_refused_for_t5(kv_heads: int) -> None:
    with pytest.raises(
        SettingError,
        match="kv_heads: got 1, but every one of T5's 2 heads has its own keys and values; leave it out",
    ):
        replace(TINY, kv_heads=kv_heads)


def test_mistake_8_1_12_t5_computes_in_fp32_or_bf16_and_never_in_fp16(tmp_path: Path) -> None:
    files = tiny_files("t5")
    folder = tmp_path / "half"
    shutil.copytree(files.weights, folder)
    half: Any = _model(files).half()
    save_model(half, folder)
    stored_half = files._replace(weights=folder, spec=checkpoint_spec(folder, is_pointer=False))

    kinds = [{p.dtype for p in _model(stored_half, p).parameters()} for p in ("fp32", "bf16")]

    assert typing.get_args(LoadPrecision) == ("fp32", "bf16")
    assert stored_half.spec.precision == "fp16"
    assert kinds == [{torch.float32}, {torch.bfloat16}]


def test_bf16_gives_about_what_fp32_gives() -> None:
    exact, rounded = (_said(_model(tiny_files("t5"), p)).float() for p in ("fp32", "bf16"))

    assert torch.isfinite(rounded).all()
    # bf16 keeps 8 bits; a few layers of a random model multiply that.
    assert (exact - rounded).abs().max() < 0.05 * exact.abs().max()


def test_a_seq2seq_model_is_not_loaded_as_a_causal_one() -> None:
    with pytest.raises(StageError, match="T5ForConditionalGeneration is no causal language model"):
        load_causal_lm(tiny_files("t5"), precision="fp32", device="cpu")


def test_a_causal_model_is_loaded_as_ever() -> None:
    files = tiny_files("qwen3")
    ids = torch.tensor([[7, 8, 9]])

    with torch.inference_mode():
        found, expected = (
            load(files, precision="fp32", device="cpu")(ids).logits
            for load in (load_lm, load_causal_lm)
        )

    assert torch.equal(found, expected)


def test_a_merged_adapter_says_what_the_same_adapter_says_apart(tmp_path: Path) -> None:
    files = tiny_files("t5")
    adapted = _adapter(files, tmp_path)

    base, merged = _said(_model(files)), _said(_model(adapted))
    apart = _said(load_lm(adapted, precision="fp32", device="cpu", merge=False))

    # The sums are taken in another order: float noise, and far from the model without the adapter.
    assert (merged - apart).abs().max() < 1e-4 * apart.abs().max()
    assert (merged - base).abs().max() > 0.1


def test_an_adapter_leaves_the_output_layer_apart_from_the_embedding(tmp_path: Path) -> None:
    files = tiny_files("t5")

    model = _model(_adapter(files, tmp_path), "bf16")

    base = _model(files, "bf16")
    assert torch.equal(model.lm_head.weight, base.lm_head.weight)
    assert torch.equal(model.shared.weight, base.shared.weight)
    assert not torch.equal(model.lm_head.weight, model.shared.weight)


def test_limits_name_the_end_token_and_no_end_of_relative_positions() -> None:
    files = tiny_files("t5")

    assert read_limits(files, load_tokenizer(files)) == (frozenset({2}), None)
    assert longest_trained(files) == 256
    assert longest_trained(tiny_files("llama")) == 256


def test_a_t5_folder_is_taken_in_and_nothing_is_copied() -> None:
    folder = tiny_model("t5")
    plain = {name: path for path in folder.iterdir() if (name := path.name) != "model.json"}
    ctx = FakeContext(config=pretrained.Config(folder=str(folder)), sources={"folder": folder})
    pretrained.Pretrained().run(ctx)

    spec = read_spec(ctx.folders["model"])

    assert (spec.architecture, spec.width, spec.is_pointer) == (
        "T5ForConditionalGeneration",
        32,
        True,
    )
    assert spec.files.keys() == plain.keys()
    assert ctx.points["model"] == folder
    assert ctx.notes["summary"] == "T5ForConditionalGeneration, 0.06 M parameters, fp32"


def test_a_model_without_a_start_token_is_refused() -> None:
    model = _model(tiny_files("t5"))
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None

    with pytest.raises(StageError, match="its config names no decoder_start_token_id, so its text"):
        decoder_start_id(model)
