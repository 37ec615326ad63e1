"""Weights in 4 and 8 bits: loaded, written with, named in the texts' keys, and refused where they cannot be."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kpod.runner import MissingExtra, StageError
from kpod.stages._lm import quantised
from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.quantised import (
    Quantisation,
    check_quantisable,
    keep_to_precision,
    quantised_config,
)
from kpod.stages.teacher.local import Config, Local, TeacherPrompt
from tests.stages.fakes import FakeContext
from tests.stages.test_teacher_local import QUESTIONS
from tests.stages.tiny_models import tiny_files, tiny_model

CONFIG = {"max_new_tokens": 6, "prompt": TeacherPrompt(template="Q: {question} A:")}


def _written(root: Path, quantisation: Quantisation) -> FakeContext[Config]:
    ctx = FakeContext(
        config=Config(precision="fp32", quantisation=quantisation, max_new_tokens=6, prompt=CONFIG["prompt"]),  # type: ignore[arg-type]
        inputs={"questions": QUESTIONS[:3]}, models={"model": tiny_model()}, root=root,
    )  # fmt: skip
    Local().run(ctx)
    return ctx


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_a_quantised_teacher_writes_texts_of_their_own_key(
    tmp_path: Path, quantisation: Quantisation, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        plain = _written(tmp_path, "none")
        num_plain = plain.records.count()
        made = _written(tmp_path, quantisation)
    again = _written(tmp_path, quantisation)

    assert [row.question_id for row in made.rows("rationales")] == [one.id for one in QUESTIONS[:3]]
    assert made.records.count() == 2 * num_plain
    assert again.rows("rationales") == made.rows("rationales")
    assert again.notes["saved"]["texts"] == 3
    assert not [one for one in caplog.records if one.name.startswith("bitsandbytes.autograd")]


def test_quantised_weights_take_less_memory() -> None:
    sizes = [
        load_lm(
            tiny_files(), precision="fp32", device="cpu", quantisation=one
        ).get_memory_footprint()
        for one in ("none", "int8", "nf4")
    ]

    assert sizes[0] > sizes[1] > sizes[2]


def test_mistake_8_2_05_four_bits_come_with_their_type_and_compute_in_the_recipes_precision() -> (
    None
):
    import torch

    config = quantised_config("nf4", dtype=torch.bfloat16)

    assert (config.bnb_4bit_compute_dtype, config.bnb_4bit_quant_type) == (torch.bfloat16, "nf4")
    assert quantised_config("none", dtype=torch.float32) is None


def test_a_model_with_an_encoder_is_refused() -> None:
    with pytest.raises(
        StageError,
        match="quantisation is nf4, but T5ForConditionalGeneration is no causal language model\nallowed for it:",
    ):
        check_quantisable(tiny_files("t5"), "nf4")
    check_quantisable(tiny_files("t5"), "none")


def test_a_missing_library_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda _: None)

    with pytest.raises(
        MissingExtra, match="quantisation: int8 needs the library bitsandbytes, which is not"
    ):
        check_quantisable(tiny_files(), "int8")


def test_an_adapter_stays_beside_quantised_weights(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    files = tiny_files()
    base = load_lm(files, precision="fp32", device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted = get_peft_model(
            base, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
        )
        adapted.save_pretrained(str(tmp_path))
    files = files._replace(adapter=tmp_path)
    ids = torch.tensor([[5, 6, 7]])

    found = [
        load_lm(one, precision="fp32", device="cpu", quantisation="nf4")(input_ids=ids).logits
        for one in (files, tiny_files())
    ]

    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_a_kernel_that_computes_in_bf16_is_left_on_only_where_bf16_is_asked_for_and_the_layer_fits_it() -> (
    None
):
    import torch
    from bitsandbytes.nn import Linear4bit

    def layers(dtype: torch.dtype, *, is_capable: bool = True) -> list[bool]:
        sizes = ((64, 32), (32, 32), (64, 48))
        model = torch.nn.Sequential(*(Linear4bit(*size, quant_type="nf4") for size in sizes)).to("cpu")  # fmt: skip
        for layer in model:
            layer.support_avx512bf16_for_cpu = is_capable  # as on a CPU with avx512_bf16
        keep_to_precision(model, dtype)
        return [layer.support_avx512bf16_for_cpu for layer in model]

    assert layers(torch.bfloat16) == [True, False, False]
    assert layers(torch.float32) == [False, False, False]
    assert layers(torch.bfloat16, is_capable=False) == [False, False, False]
