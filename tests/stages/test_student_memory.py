"""A student's memory: forecast before it trains, kept within what there is, and told where it runs out all the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Question, Rationale, StageError
from kpod.runner.capability import Capability
from kpod.stages._lm.artifact import ModelFiles, ModelSpec, write_spec
from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Passage, pad
from kpod.stages.student import _loss
from kpod.stages.student._adapter import Lora, add_lora
from kpod.stages.student._auto import resolve
from kpod.stages.student._demand import Demand, cheaper
from kpod.stages.student._memory import Memory, adapter_parameters, forecast
from kpod.stages.student._settings import Config
from kpod.stages.student._shape import Shape, guessed_shape, read_shape, shape_of_config
from kpod.stages.student._shortage import MemoryPlan, plan_memory, told_shortage
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext, FakePlacement
from tests.stages.tiny_models import Tiny, tiny_files, tiny_model

# Qwen2.5-7B and -0.5B, as their config.json and safetensors have it.
SEVEN_B = ModelSpec(
    architecture="Qwen2ForCausalLM", width=3584, num_parameters=7_615_616_512, vocab_size=152_064, precision="bf16",
    files={},
)  # fmt: skip
SEVEN_B_CONFIG = {
    "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "intermediate_size": 18_944, "vocab_size": 152_064, "tie_word_embeddings": False,
}  # fmt: skip
HALF_B = ModelSpec(
    architecture="Qwen2ForCausalLM", width=896, num_parameters=494_032_768, vocab_size=151_936, precision="bf16",
    files={},
)  # fmt: skip
GB = 10**9


def machine(memory_gb: float, *, gpu_gb: float | None = None) -> Capability:
    return Capability(
        device="cpu" if gpu_gb is None else "cuda", has_fast_bf16=True, memory_b=int(memory_gb * GB), num_cpus=2,
        machine="x86_64", device_memory_b=None if gpu_gb is None else int(gpu_gb * GB),
    )  # fmt: skip


def model_folder(root: Path, spec: ModelSpec) -> Path:
    write_spec(root, spec)
    return root


def told(shape: Shape, **changes: Any) -> Memory:
    given: dict[str, Any] = {
        "method": "lora", "lora": Lora(), "precision": "fp32", "compute": "auto", "optimizer": "adamw",
        "micro_batch_tokens": 4096, "is_checkpointing": False, "longest": 512,
    }  # fmt: skip
    return forecast(shape, **(given | changes))


def kept_bytes(student: Parts) -> int:
    """What autograd keeps of one micro-batch of 4 sequences of 64 tokens, half of them targets, up to the output layer."""
    num_context = 32 - (student.encoder is not None)
    passage = Passage(tuple(range(2, 2 + num_context)), tuple(range(2, 34)), (1.0,) * 32)
    batch = pad([passage] * 4, device=student.device, encoder=student.encoder)
    kept: dict[int, int] = {}
    held = []
    own = {value.untyped_storage().data_ptr() for value in student.model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        held.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        student.hidden(batch)
    return sum(kept.values())


@pytest.mark.parametrize("architecture", ["qwen3", "llama", "t5"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_activations_are_forecast_as_autograd_keeps_them(architecture: Tiny, method: str) -> None:
    files = tiny_files(architecture)
    model: Any = load_lm(files, precision="fp32", device="cpu")
    if method == "lora":
        model = add_lora(model, Lora(), seed=0)
    student = _loss.take_apart(model, precision="fp32", probe_ids=(2, 3, 4))
    student.model.train()

    found = told(
        read_shape(files.weights, files.spec), method=method, micro_batch_tokens=256, longest=64
    )

    # The forecast adds the work of the backward pass.
    assert found.activations == pytest.approx(kept_bytes(student), rel=0.3)


def test_the_adapters_numbers_are_counted_as_peft_makes_them() -> None:
    files = tiny_files("qwen3")
    shape = read_shape(files.weights, files.spec)
    for lora in (Lora(), Lora(rank=3, targets=("q_proj", "down_proj"))):
        model = add_lora(load_lm(files, precision="fp32", device="cpu"), lora, seed=0)
        trained = sum(value.numel() for value in model.parameters() if value.requires_grad)

        assert adapter_parameters(shape, lora) == trained


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 65_536),
    more=st.integers(1, 65_536),
    rank=st.integers(1, 256),
    precision=st.sampled_from(["fp32", "bf16", "nf4", "nf4_double", "int8"]),
    is_checkpointing=st.booleans(),
)
def test_more_tokens_and_a_higher_rank_never_take_less_and_checkpointing_never_more(
    tokens: int, more: int, rank: int, precision: str, is_checkpointing: bool
) -> None:
    shape = shape_of_config(SEVEN_B_CONFIG, SEVEN_B)

    def total(**changes: Any) -> int:
        given: dict[str, Any] = {
            "precision": precision, "compute": "bf16", "micro_batch_tokens": tokens, "lora": Lora(rank=rank),
            "is_checkpointing": is_checkpointing, "longest": 1,
        }  # fmt: skip
        return told(shape, **(given | changes)).total

    assert total(micro_batch_tokens=tokens + more) >= total()
    assert total(lora=Lora(rank=rank + more)) >= total()
    assert total(device="cuda", is_checkpointing=True) <= total(
        device="cuda", is_checkpointing=False
    )


def test_four_bits_hold_a_7b_models_layers_in_under_half_of_bf16() -> None:
    shape = shape_of_config(SEVEN_B_CONFIG, SEVEN_B)
    held = ("bf16", "int8", "nf4")
    sizes = {name: told(shape, precision=name, compute="bf16").weights / GB for name in held}

    assert sizes["bf16"] == pytest.approx(15.2, abs=0.1)
    assert sizes["int8"] == pytest.approx(8.7, abs=0.1)
    # Embedding and output layer (1.1 of 7.6 billion) stay in bf16.
    assert sizes["nf4"] == pytest.approx(5.85, abs=0.1)


def test_a_model_that_lies_elsewhere_is_forecast_nearly_as_with_its_config() -> None:
    known = told(shape_of_config(SEVEN_B_CONFIG, SEVEN_B)).activations
    guessed = told(guessed_shape(SEVEN_B)).activations

    assert guessed == pytest.approx(known, rel=0.25)


def test_auto_tokens_are_4096_on_a_cpu_with_room(tmp_path: Path) -> None:
    found = resolve(Config(), machine(24), model_folder(tmp_path, HALF_B))

    assert found.micro_batch_tokens == 4096
    assert (found.precision, found.compute) == ("bf16", "auto")


def test_auto_tokens_shrink_with_the_memory_and_never_below_the_longest_sequence(
    tmp_path: Path,
) -> None:
    folder = model_folder(tmp_path, HALF_B)
    without = Config(gradient_checkpointing=False)

    found = [
        resolve(replace(without, memory_gb=gb), machine(24), folder).micro_batch_tokens
        for gb in (100.0, 6.0, 4.0, 1.0)
    ]

    assert found == sorted(found, key=int, reverse=True)
    assert (found[0], found[-1]) == (4096, 1024)
    short = replace(without, memory_gb=1.0, max_length=100)
    assert resolve(short, machine(24), folder).micro_batch_tokens == 128


def test_auto_tokens_fill_a_gpu_whose_own_memory_counts(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, HALF_B)

    large = resolve(Config(batch_size=64), machine(64, gpu_gb=80), folder).micro_batch_tokens
    small = resolve(Config(batch_size=64), machine(64, gpu_gb=6), folder).micro_batch_tokens

    assert large == 32768
    assert int(small) < 4096


def test_tokens_that_the_recipe_names_stay(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, HALF_B)

    assert resolve(Config(micro_batch_tokens=77), machine(1), folder).micro_batch_tokens == 77


def plan(config: Config, *, longest: int = 200) -> tuple[MemoryPlan, dict[str, Any]]:
    """Of a model of 0.5 billion weights, which is nowhere."""
    files = ModelFiles(Path("nowhere"), None, HALF_B, "half-b")
    ctx: Any = FakeContext(config=config, placement=FakePlacement(device="cpu"))
    return plan_memory(ctx, files, config, longest), ctx.notes


HALF_B_CONFIG = Config(precision="fp32", micro_batch_tokens=4096, batch_size=32)


def test_checkpointing_is_chosen_only_where_the_forecast_needs_it() -> None:
    roomy, notes = plan(replace(HALF_B_CONFIG, memory_gb=100.0))
    tight, tight_notes = plan(replace(HALF_B_CONFIG, memory_gb=5.0))

    assert not roomy.is_checkpointing
    assert tight.is_checkpointing
    assert notes["memory"]["gradient_checkpointing"] is False
    assert tight_notes["memory"]["gradient_checkpointing"] is True
    assert tight_notes["memory"]["budget_gb"] == 5.0
    assert set(notes["memory"]["parts_gb"]) == set(Memory.__slots__)
    assert notes["memory"]["forecast_gb"] == pytest.approx(roomy.forecast.total / GB, abs=1e-3)


def test_a_training_that_cannot_fit_is_refused_with_three_ways_out() -> None:
    config = replace(HALF_B_CONFIG, memory_gb=2.0, gradient_checkpointing=False)
    with pytest.raises(StageError) as caught:
        plan(config)

    first, parts, ways = str(caught.value).split("\n")
    assert first.startswith("training takes ")
    assert " by forecast, and memory_gb allows 2.00 GB of the " in first
    assert parts.startswith("libraries 0.58 GB, weights 1.98 GB, adapters 0.0")
    assert parts.endswith("; without gradient checkpointing")
    assert ways.count(" GB)") == ways.count("set ") == 3
    assert "gradient_checkpointing: true (" in ways


def test_a_full_training_that_cannot_fit_may_become_an_adapter() -> None:
    with pytest.raises(StageError, match=r"with gradient checkpointing\nset .*method: lora \("):
        plan(replace(HALF_B_CONFIG, method="full", memory_gb=2.0))


def test_every_way_out_takes_less() -> None:
    shape = guessed_shape(HALF_B)
    for config in (HALF_B_CONFIG, replace(HALF_B_CONFIG, method="full")):
        demand = Demand(
            shape=shape, config=config, micro_batch_tokens=4096, is_checkpointing=False, longest=300, device="cpu"
        )  # fmt: skip
        ways = cheaper(demand)

        assert all(way.memory.total < demand.memory.total for way in ways.values())


def test_memory_that_runs_out_is_told_with_the_forecast_and_ways_out() -> None:
    found, _ = plan(replace(HALF_B_CONFIG, memory_gb=100.0))
    with (
        pytest.raises(
            StageError, match=r"out of memory: .*can't allocate memory.*\nforecast: "
        ) as caught,
        told_shortage(found),
    ):
        torch.empty(1 << 50)  # the allocator's own words

    assert str(caught.value).split("\n")[-1].startswith("set ")
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried …")):
        with pytest.raises(StageError, match="out of memory: "), told_shortage(found):
            raise error


def test_other_errors_rise_as_they_are() -> None:
    found, _ = plan(replace(HALF_B_CONFIG, memory_gb=100.0))
    with pytest.raises(RuntimeError, match="shapes differ"), told_shortage(found):
        raise RuntimeError("shapes differ")


def test_a_student_stage_notes_its_memory_and_refuses_before_it_loads_the_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    question = Question.make(
        "How many apples are there?", kind="numeric", answer="3", split="train", source="test"
    )
    rationale = Rationale.make(question.id, "There are 1 + 2 = 3 apples.", teacher="reference")
    config = Config(epochs=1, precision="fp32", micro_batch_tokens=4096)

    def run(config: Config) -> dict[str, Any]:
        ctx: Any = FakeContext(
            config=config, inputs={"questions": [question], "rationales": [rationale]},
            models={"model": tiny_model()}, placement=FakePlacement(device="cpu"),
        )  # fmt: skip
        CausalLm().run(ctx)
        return ctx.notes  # type: ignore[no-any-return]

    notes = run(config)
    assert notes["memory"]["gradient_checkpointing"] is False
    # Python and torch alone are some hundred MB.
    assert 0.1 < notes["peak_memory_gb"] < 100
    held = torch.ones(150_000_000)
    del held  # what another stage of the process held before is no part of this training
    assert run(config)["peak_memory_gb"] < notes["peak_memory_gb"] + 0.4
    monkeypatch.setattr("kpod.stages.student._build.load_lm", pytest.fail)
    with pytest.raises(StageError, match=r"memory_gb allows 0\.10 GB of the "):
        run(replace(config, memory_gb=0.1))


# MB at the peak beside the libraries, read with tests/benchmarks/memory.py on one thread (torch 2.13, avx512_bf16): Qwen2
# of width, layers, feed-forward, heads and keys, vocabulary; tokens of the micro-batch, of sequences of 256; checkpointing.
@pytest.mark.parametrize(
    ("sizes", "tokens", "is_checkpointing", "measured"),
    [
        ((896, 2, 4864, 14, 2, 151_936), 1024, False, 1341),
        ((896, 2, 4864, 14, 2, 151_936), 1024, True, 1234),
        ((512, 4, 1536, 8, 4, 8_000), 2048, False, 948),
        ((512, 4, 1536, 8, 4, 8_000), 2048, True, 636),
    ],
)
def test_the_forecast_of_a_dora_is_near_what_was_measured(
    sizes: tuple[int, ...], tokens: int, is_checkpointing: bool, measured: int
) -> None:
    width, layers, ff, heads, keys, vocabulary = sizes
    head = width // heads
    a_layer = width * (2 * width + 2 * keys * head + 3 * ff)
    shape = Shape(
        num_parameters=vocabulary * width + layers * a_layer, width=width, layers=layers, encoder_layers=0, ff_width=ff,
        ff_tensors=4, heads=heads, query_width=width, key_width=keys * head, vocab_size=vocabulary, is_tied=True,
    )  # fmt: skip

    told = forecast(
        shape, method="lora", lora=Lora(dora=True), precision="bf16", compute="auto", optimizer="adamw",
        micro_batch_tokens=tokens, is_checkpointing=is_checkpointing, longest=256,
    )  # fmt: skip

    assert (told.total - told.libraries) / 1e6 == pytest.approx(measured, rel=0.25)
