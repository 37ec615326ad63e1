"""Adapters: the two variants of LoRA, an adapter that is trained on, and peft's own loading of what was written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.generation import Request
from kpod.stages._lm.loading import load_lm, load_tokenizer
from kpod.stages._lm.saving import adapter_with_base
from kpod.stages._lm.speaking import write_texts
from kpod.stages.student._adapter import Lora, add_lora, write_adapter
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext
from tests.stages.test_student_causal_lm import FAST, context
from tests.stages.tiny_models import tiny_files, tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
VARIANTS = [Lora(rank=4, rslora=True), Lora(rank=4, dora=True), Lora(rank=4, dora=True, rslora=True)]  # fmt: skip


def student(root: Path, config: Config = FAST, **changes: Any) -> FakeContext[Config]:
    root.mkdir(parents=True, exist_ok=True)
    ctx = context(config, root=root, **changes)
    CausalLm().run(ctx)
    return ctx


def continued(first: FakeContext[Config], root: Path, config: Config) -> FakeContext[Config]:
    """A second student, whose Model input is the first."""
    base = {first.references[0]: tiny_model()}
    return student(root, config, models={"model": first.folders["student"]}, artifacts=base)


def files_of(ctx: FakeContext[Config]) -> ModelFiles:
    folder = ctx.folders["student"]
    return ModelFiles(tiny_model(), folder, read_spec(folder), "student")


def perturbed(lora: Lora) -> Any:
    """A model whose adapter says something: what starts at zero is random."""
    model = add_lora(load_lm(tiny_files(), precision="fp32", device="cpu"), lora, seed=0)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) / 10
    return model.eval()


@pytest.mark.parametrize("lora", VARIANTS)
def test_an_adapter_that_is_loaded_again_gives_the_logits_it_was_written_with(
    lora: Lora, tmp_path: Path
) -> None:
    model = perturbed(lora)
    plain = load_lm(tiny_files(), precision="fp32", device="cpu")
    write_adapter(model, tmp_path)
    files = tiny_files()._replace(adapter=tmp_path)
    with torch.no_grad():
        expected, base = model(input_ids=IDS).logits, plain(input_ids=IDS).logits
        apart, merged = (
            load_lm(files, precision="fp32", device="cpu", merge=merge).eval()(input_ids=IDS).logits
            for merge in (False, True)
        )

    assert torch.equal(apart, expected)
    # Merging rounds each weight once more.
    torch.testing.assert_close(merged, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(base, expected, atol=1e-2)


@pytest.mark.parametrize("lora", VARIANTS)
def test_both_variants_learn_and_are_named_in_the_adapters_file(lora: Lora, tmp_path: Path) -> None:
    ctx = student(tmp_path, replace(FAST, lora=lora))

    row = json.loads((ctx.folders["student"] / "adapter_config.json").read_text(encoding="utf-8"))
    losses = ctx.notes["losses"]
    assert (row["use_rslora"], row["use_dora"]) == (lora.rslora, lora.dora)
    assert losses[-1] < losses[0] - 0.3


def test_rslora_counts_the_product_by_the_root_of_the_rank() -> None:
    scales = [
        perturbed(Lora(rank=4, alpha=8.0, rslora=rslora))
        .base_model.model.model.layers[0]
        .self_attn.q_proj.scaling["default"]
        for rslora in (False, True)
    ]

    assert scales == [2.0, 4.0]


def test_an_adapter_is_trained_on_from_where_it_stood(tmp_path: Path) -> None:
    first = student(tmp_path / "first")
    second = continued(first, tmp_path / "second", replace(FAST, epochs=1))

    assert second.notes["losses"][0] < first.notes["losses"][-1]
    assert second.references == first.references
    spec = read_spec(second.folders["student"])
    assert (spec.base, spec.precision) == (first.references[0], "fp32")
    configs = [
        (ctx.folders["student"] / "adapter_config.json").read_bytes() for ctx in (first, second)
    ]
    assert configs[0] == configs[1]


def test_an_adapter_that_is_not_trained_further_stays_what_it_was(tmp_path: Path) -> None:
    first = student(tmp_path / "first", replace(FAST, lora=Lora(rank=4, dora=True)))
    still = replace(FAST, lora=Lora(rank=4, dora=True), max_steps=1, learning_rate=1e-30)
    second = continued(first, tmp_path / "second", still)

    held = [
        (ctx.folders["student"] / "adapter_model.safetensors").read_bytes()
        for ctx in (first, second)
    ]
    assert held[0] == held[1]


def test_an_adapter_of_other_settings_is_refused_and_both_are_shown(tmp_path: Path) -> None:
    first = student(tmp_path / "first", replace(FAST, lora=Lora(rank=4, targets=("q_proj",))))

    with pytest.raises(StageError) as raised:
        continued(first, tmp_path / "second", replace(FAST, lora=Lora(rank=8, targets=("q_proj", "v_proj"))))  # fmt: skip

    assert str(raised.value) == (
        "the model to train is an adapter, and `lora` has other settings than it: rank is 4 there and 8 here;"
        " targets is ['q_proj'] there and ['q_proj', 'v_proj'] here\n"
        "set lora to the adapter's own to train it on, or method: full to merge it and train all weights"
    )


def test_method_full_merges_an_adapter_and_trains_all_weights(tmp_path: Path) -> None:
    first = student(tmp_path / "first")
    full = replace(FAST, method="full", epochs=1, learning_rate=1e-3)
    second = continued(first, tmp_path / "second", full)

    assert second.notes["losses"][0] < first.notes["losses"][-1]
    assert second.references == []
    folder = second.folders["student"]
    assert read_spec(folder).base is None
    assert not (folder / "adapter_config.json").exists()
    assert {"model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}


def test_the_output_layer_and_the_embedding_are_not_adapted() -> None:
    for name in ("lm_head", "embed_tokens"):
        with pytest.raises(StageError) as raised:
            perturbed(Lora(targets=(name,)))

        assert str(raised.value).startswith(
            f"lora.targets: {name} is no linear layer between embedding and output layer, which are one matrix here,"
            " of Qwen3ForCausalLM\nallowed: down_proj,"
        )


def test_plain_peft_loads_an_adapter_with_its_base_and_says_what_our_engine_says(
    tmp_path: Path,
) -> None:
    from peft import AutoPeftModelForCausalLM

    ctx = student(tmp_path / "run", replace(FAST, epochs=4))
    files, exported = files_of(ctx), tmp_path / "exported"
    exported.mkdir()
    adapter_with_base(ctx.folders["student"], str(tiny_model()), exported)
    tokenizer = load_tokenizer(files)
    prompt = tuple(tokenizer("Q: Tom has 7 apples . Tom buys 10 more . A:").input_ids)
    texts = write_texts(
        ctx, files, tokenizer, [Request(prompt_ids=prompt)], Decoding(max_new_tokens=16),
        precision="fp32", batch_tokens=512, end_ids=frozenset({int(tokenizer.eos_token_id)}),
    )  # fmt: skip

    model = AutoPeftModelForCausalLM.from_pretrained(str(exported), dtype=torch.float32).eval()
    found = model.generate(
        input_ids=torch.tensor([prompt]), max_new_tokens=16, do_sample=False,
        eos_token_id=int(tokenizer.eos_token_id), pad_token_id=int(tokenizer.pad_token_id),
    )  # fmt: skip

    said = tokenizer.decode(found[0, len(prompt) :], skip_special_tokens=True)
    assert said.strip()
    assert texts[0].text.strip() == said.strip()
