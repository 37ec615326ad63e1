"""Students on quantised weights: what is held how, what trains, what `auto` takes, and what is refused."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import MissingExtra, SettingError, StageError
from kpod.runner.capability import Capability, parse_cards
from kpod.stages._lm import quantised
from kpod.stages._lm.artifact import ModelFiles, ModelSpec, read_spec, write_spec
from kpod.stages._lm.loading import load_lm, load_quantised, load_tokenizer
from kpod.stages._lm.precision import (
    Precision,
    StudentPrecision,
    explain_precision,
    resolve_student_precision,
)
from kpod.stages._lm.quantised import check_quantisable, make_trainable
from kpod.stages.student._adapter import Lora, add_lora
from kpod.stages.student._build import _check_computes
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from kpod.stages.student.seq2seq_lm import Seq2SeqLm
from tests.stages.test_student_causal_lm import FAST, context, rows, student_bytes
from tests.stages.tiny_models import tiny_files, tiny_model

HELD: list[tuple[StudentPrecision, Precision]] = [
    ("nf4", "fp32"), ("nf4", "bf16"), ("nf4_double", "fp32"), ("int8", "fp32"), ("int8", "bf16"),
]  # fmt: skip
MACHINE = Capability(
    device="cpu", has_fast_bf16=True, memory_b=16 << 30, num_cpus=2, machine="x86_64"
)
CARD = replace(MACHINE, device="cuda", device_memory_b=8 << 30)


def small(**changes: Any) -> Config:
    return replace(FAST, lora=Lora(rank=4), **changes)


def spec_of(
    billions: float, *, width: int = 4096, architecture: str = "Qwen3ForCausalLM"
) -> ModelSpec:
    return replace(
        read_spec(tiny_model()), architecture=architecture, width=width, num_parameters=round(billions * 1e9)
    )  # fmt: skip


@pytest.mark.parametrize(("precision", "compute"), HELD)
def test_a_student_learns_on_quantised_weights_in_silence(
    precision: StudentPrecision, compute: Precision, caplog: pytest.LogCaptureFixture
) -> None:
    ctx = context(small(precision=precision, compute=compute))
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        # of a width of 32, which no model that is used has; on a GPU
        warnings.filterwarnings("ignore", r"inner dimension \(32\) is not aligned")
        CausalLm().run(ctx)

    losses = ctx.notes["losses"]
    assert losses[-1] < losses[0] - 0.5
    trained_by = read_spec(ctx.folders["student"]).trained_by
    assert trained_by is not None
    assert (trained_by["precision"], trained_by["compute"]) == (precision, compute)
    assert caplog.records == []


def test_a_quantised_dora_learns() -> None:
    ctx = context(small(precision="nf4_double", compute="bf16", max_steps=4))
    ctx.config = replace(ctx.config, lora=Lora(rank=4, dora=True))
    CausalLm().run(ctx)

    assert ctx.notes["losses"][-1] < ctx.notes["losses"][0]


def test_activations_computed_twice_give_the_same_adapter() -> None:
    config = small(precision="nf4", compute="fp32", max_steps=3)
    once, twice = (
        student_bytes(context(replace(config, gradient_checkpointing=is_on)))
        for is_on in (False, True)
    )

    assert once == twice


@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_norms_and_adapter_are_held_in_fp32_and_the_rest_in_what_is_computed(
    quantisation: quantised.Quantisation,
) -> None:
    model: Any = load_quantised(tiny_files(), quantisation, precision="bf16", device="cpu")
    make_trainable(model)
    model = add_lora(model, Lora(rank=4), seed=0)
    inner = model.get_base_model()
    norm = inner.model.layers[0].input_layernorm
    given = torch.ones(1, 2, 32, dtype=torch.bfloat16)

    assert norm.weight.dtype == inner.model.layers[0].self_attn.q_norm.weight.dtype == torch.float32
    assert norm(given).dtype == inner.get_input_embeddings().weight.dtype == torch.bfloat16
    trained = {name: value.dtype for name, value in model.named_parameters() if value.requires_grad}
    assert {"lora_" in name for name in trained} == {True}
    assert set(trained.values()) == {torch.float32}


def test_4_bit_weights_are_not_packed_for_reading_while_they_train() -> None:
    model: Any = load_quantised(tiny_files(), "nf4", precision="fp32", device="cpu")
    layer = model.model.layers[0].mlp.up_proj
    layer.support_avx512bf16_for_cpu = True  # as on a CPU with avx512_bf16

    make_trainable(model)
    model.eval()
    with torch.no_grad():
        model(input_ids=torch.tensor([[1, 2, 3]]))

    assert not getattr(layer.weight.quant_state, "packing_format_for_cpu", False)


def test_double_quantisation_quantises_the_scales_too() -> None:
    nested = [
        load_quantised(tiny_files(), "nf4", precision="fp32", device="cpu", is_double=is_double)
        .model.layers[0].mlp.up_proj.weight.quant_state.nested
        for is_double in (False, True)
    ]  # fmt: skip

    assert nested == [False, True]


def test_an_adapter_of_quantised_weights_is_evaluated_merged_or_beside_them(tmp_path: Path) -> None:
    ctx = context(small(precision="nf4_double", compute="fp32"), root=tmp_path)
    CausalLm().run(ctx)
    folder = ctx.folders["student"]
    files = ModelFiles(tiny_model(), folder, read_spec(folder), "student")
    question, rationale = rows()[0][0], rows()[1][0]
    text = (
        f"Q: {question.text} A: Let's think step by step. {rationale.text} Therefore, the answer is"
    )
    ids = load_tokenizer(files)(text, return_tensors="pt").input_ids
    ways: list[tuple[ModelFiles, quantised.Quantisation]] = [(files, "none"), (files, "nf4"), (tiny_files(), "none")]  # fmt: skip
    with torch.no_grad():
        merged, beside, base = (
            float(load_lm(one, precision="fp32", device="cpu", quantisation=how)(input_ids=ids, labels=ids).loss)
            for one, how in ways
        )  # fmt: skip

    # Nats a token of a text it was trained on: what was learnt beside 4 bits is there beside them, and mostly without.
    assert beside < merged < base


def test_weights_that_train_cannot_be_quantised_and_ignored_settings_are_refused() -> None:  # fmt: skip
    with pytest.raises(SettingError, match="precision: weights held as nf4 cannot train; set method: lora"):  # fmt: skip
        Config(method="full", precision="nf4")
    with pytest.raises(SettingError, match="compute: only quantised weights are computed in another type than they are held in, but precision is fp32; set precision: bf16, or one of nf4, nf4_double, int8"):  # fmt: skip
        Config(precision="fp32", compute="bf16")
    with pytest.raises(SettingError, match=r"precision: int8 and lora\.dora do not go together: peft loses the scales"):  # fmt: skip
        Config(precision="int8", lora=Lora(dora=True))


def test_a_student_with_an_encoder_is_refused() -> None:
    ctx = context(small(precision="nf4", compute="fp32"), models={"model": tiny_model("t5")})

    with pytest.raises(StageError) as raised:
        Seq2SeqLm().run(ctx)

    assert str(raised.value) == (
        "precision is nf4, but T5ForConditionalGeneration is no causal language model\n"
        "allowed for it: precision: auto, fp32 or bf16"
    )


def test_a_dora_is_not_put_beside_8_bit_weights(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"use_dora": true}', encoding="utf-8")

    with pytest.raises(StageError, match=r"quantisation is int8, but the adapter is a DoRA, .*\nallowed for it: quantisation: none or nf4"):  # fmt: skip
        check_quantisable(tiny_files()._replace(adapter=tmp_path), "int8")


def test_a_missing_library_is_told_with_what_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda _: None)

    with pytest.raises(MissingExtra, match="precision: nf4_double needs the library bitsandbytes"):
        CausalLm().run(context(small(precision="nf4_double", compute="fp32")))


def test_bf16_on_a_card_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")

    with pytest.raises(StageError) as raised:
        _check_computes(torch.device("cuda"), "bf16")
    _check_computes(torch.device("cuda"), "fp32")
    _check_computes(torch.device("cpu"), "bf16")

    assert str(raised.value) == (
        "the student is to compute in bf16, which Tesla T4 does not in hardware\n"
        "allowed here: precision: fp32, or quantised weights with compute: fp32"
    )


@pytest.mark.parametrize(
    ("machine", "spec", "method", "expected"),
    [
        (MACHINE, spec_of(0.5), "lora", ("bf16", "auto")),
        (MACHINE, spec_of(0.5, width=96), "lora", ("fp32", "auto")),
        (replace(MACHINE, has_fast_bf16=False), spec_of(0.5), "lora", ("fp32", "auto")),
        # 7e9 * 2 bytes are 14 GB of 17.2: more than 60 %. 5e9 * 2 are 10 GB: less; in fp32 again more.
        (MACHINE, spec_of(7), "lora", ("nf4_double", "bf16")),
        (MACHINE, spec_of(5), "lora", ("bf16", "auto")),
        (replace(MACHINE, has_fast_bf16=False), spec_of(5), "lora", ("nf4_double", "fp32")),
        (MACHINE, spec_of(7), "full", ("bf16", "auto")),
        (MACHINE, spec_of(7, architecture="T5ForConditionalGeneration"), "lora", ("bf16", "auto")),
        (CARD, spec_of(3), "lora", ("nf4_double", "bf16")),
        (CARD, spec_of(2), "lora", ("bf16", "auto")),
        (replace(CARD, device_memory_b=None), spec_of(70), "lora", ("bf16", "auto")),
    ],
)
def test_precision_auto_is_the_faster_or_4_bits_where_that_does_not_fit(
    machine: Capability, spec: ModelSpec, method: Any, expected: tuple[str, str], tmp_path: Path
) -> None:
    write_spec(tmp_path, spec)

    assert resolve_student_precision("auto", "auto", machine, tmp_path, method=method) == expected


def test_a_named_precision_stays_and_only_quantised_weights_get_a_type_to_compute_in(
    tmp_path: Path,
) -> None:
    write_spec(tmp_path, spec_of(0.5))
    named: list[tuple[StudentPrecision, Precision]] = [("fp32", "auto"), ("nf4", "auto"), ("int8", "fp32")]  # fmt: skip
    resolved = [
        resolve_student_precision(precision, compute, MACHINE, tmp_path, method="lora")
        for precision, compute in named
    ]

    assert resolved == [("fp32", "auto"), ("nf4", "bf16"), ("int8", "fp32")]


def test_the_reason_for_a_precision_is_one_sentence() -> None:
    asked: list[tuple[StudentPrecision, ModelSpec]] = [
        ("bf16", spec_of(0.5)),
        ("nf4", spec_of(0.5)),
        ("nf4_double", spec_of(7)),
    ]
    said = [
        explain_precision(precision, spec, method="lora", capability=MACHINE)
        for precision, spec in asked
    ]  # fmt: skip

    assert said == [
        "bf16 because it is the faster for a model of width 4096 on cpu with bf16 in hardware",
        "nf4 because the recipe says so; auto is bf16 for a model of width 4096 on cpu with bf16 in hardware",
        "nf4_double because 14.0 GB of weights in bf16 are more than 60% of 17.2 GB",
    ]


def test_the_least_of_several_cards_counts() -> None:
    assert parse_cards("81559, 9.0\n16384, 7.5\n") == (16384 << 20, 7.5)
    with pytest.raises(ValueError, match=r"could not convert|invalid literal|unpack"):
        parse_cards("[N/A], 9.0\n")


def test_an_archive_that_knows_no_device_memory_is_still_read() -> None:
    row = {name: value for name, value in MACHINE.to_json().items() if name != "device_memory_b"}

    assert Capability(**row) == MACHINE
