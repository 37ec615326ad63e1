"""Loading: precision, tokenizer rules, greedy generation settings, adapters."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.loading import (
    load_causal_lm,
    load_tokenizer,
    pick_device,
    read_limits,
    set_threads,
)
from tests.stages.fakes import FakePlacement
from tests.stages.tiny_models import tiny_files


def _changed(tmp_path: Path, name: str, change: dict[str, object]) -> ModelFiles:
    """A copy of the tiny model in which one JSON file is changed."""
    files = tiny_files()
    folder = Path(shutil.copytree(files.weights, tmp_path / "copy"))
    row = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**row, **change}))
    return files._replace(weights=folder)


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_a_model_computes_in_the_asked_precision_whatever_it_is_stored_in(
    architecture: str,
) -> None:
    files = tiny_files(architecture)  # type: ignore[arg-type]

    kinds = [
        {p.dtype for p in load_causal_lm(files, precision=p, device="cpu").parameters()}
        for p in ("fp32", "bf16")
    ]

    assert kinds == [{torch.float32}, {torch.bfloat16}]


def test_sampling_settings_of_a_checkpoint_are_forgotten(tmp_path: Path) -> None:
    noisy = {
        "do_sample": True,
        "temperature": 0.6,
        "top_p": 0.8,
        "top_k": 20,
        "repetition_penalty": 1.1,
        "eos_token_id": [2, 3],
    }
    files = _changed(tmp_path, "generation_config.json", noisy)

    model = load_causal_lm(files, precision="fp32", device="cpu")

    assert not model.training
    # Unset fields are greedy decoding with no penalty in transformers.
    assert model.generation_config.to_diff_dict().keys() <= {
        "eos_token_id", "pad_token_id", "transformers_version", "bos_token_id",
    }  # fmt: skip
    assert model.generation_config.eos_token_id == [2, 3]


def test_a_text_ends_at_every_end_token_that_the_files_name(tmp_path: Path) -> None:
    files = _changed(tmp_path, "generation_config.json", {"eos_token_id": [5, 3]})

    limits = read_limits(files, load_tokenizer(files))

    assert limits == (frozenset({2, 3, 5}), 256)


def test_a_pad_token_equal_to_the_end_token_is_replaced_where_another_is_there(
    tmp_path: Path,
) -> None:
    files = _changed(tmp_path, "tokenizer_config.json", {"pad_token": "<end>"})

    tokenizer = load_tokenizer(files)

    assert (tokenizer.pad_token, tokenizer.eos_token) == ("<pad>", "<end>")


def test_a_tokenizer_without_end_token_is_refused(tmp_path: Path) -> None:
    files = _changed(tmp_path, "tokenizer_config.json", {"eos_token": None})

    with pytest.raises(StageError, match="names no end token"):
        load_tokenizer(files)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    files = _changed(tmp_path, "config.json", {})
    (files.weights / "tokenizer.json").unlink()

    with pytest.raises(StageError, match=r"no tokenizer in it, none of tokenizer\.json"):
        load_tokenizer(files)


def test_an_architecture_that_is_no_causal_model_is_refused() -> None:
    files = tiny_files()
    wrong = files._replace(spec=replace(files.spec, architecture="T5ForConditionalGeneration"))

    with pytest.raises(StageError, match="T5ForConditionalGeneration is no causal language model"):
        load_causal_lm(wrong, precision="fp32", device="cpu")


def test_a_merged_adapter_says_what_the_same_adapter_says_apart(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    files = tiny_files()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapted = get_peft_model(
            load_causal_lm(files, precision="fp32", device="cpu"),
            LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False),
        )
    adapted.save_pretrained(str(tmp_path))
    with_adapter = files._replace(adapter=tmp_path)
    ids = torch.tensor([[7, 8, 9, 10]])

    with torch.inference_mode():
        base, merged, apart = (
            load_causal_lm(f, precision="fp32", device="cpu", merge=merge)(ids).logits
            for f, merge in ((files, True), (with_adapter, True), (with_adapter, False))
        )

    # The sums are taken in another order: float noise, and far from the model without the adapter.
    assert torch.allclose(merged, apart, atol=1e-4)
    assert (merged - base).abs().max() > 0.1


def test_rotary_frequencies_stay_fp32_when_an_adapter_is_merged_in_bf16(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    files = tiny_files()
    get_peft_model(
        load_causal_lm(files, precision="fp32", device="cpu"),
        LoraConfig(r=2, target_modules="all-linear"),
    ).save_pretrained(str(tmp_path))

    model = load_causal_lm(files._replace(adapter=tmp_path), precision="bf16", device="cpu")

    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {b.dtype for name, b in model.named_buffers() if "inv_freq" in name} == {torch.float32}


def test_a_device_that_is_not_there_is_refused_with_what_to_do() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")

    assert pick_device(FakePlacement(device="auto")) == torch.device("cpu")
    with pytest.raises(
        StageError, match=r"device is cuda, but torch .* finds no CUDA device here\nset placement"
    ):
        pick_device(FakePlacement(device="cuda"))


def test_a_placement_without_threads_gets_torchs_own_number_back() -> None:
    set_threads(FakePlacement(threads=None))
    own = torch.get_num_threads()
    try:
        set_threads(FakePlacement(threads=own + 1))
        assert torch.get_num_threads() == own + 1
        set_threads(FakePlacement(threads=None))
        assert torch.get_num_threads() == own
    finally:
        torch.set_num_threads(own)


def test_threads_are_those_of_the_placement() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(FakePlacement(threads=2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
