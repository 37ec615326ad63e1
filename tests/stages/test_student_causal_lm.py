"""student.causal_lm: the same seed gives the same bytes, and what is written is what evaluation loads."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, Question, Rationale, SettingError, StageError
from kpod.runner.capability import Capability
from kpod.stages._lm.artifact import ModelFiles, file_digests, read_spec, write_spec
from kpod.stages._lm.loading import load_causal_lm
from kpod.stages._lm.prompts import Prompt, PromptConfig
from kpod.stages.student._adapter import Lora
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model

FAST = Config(epochs=2, batch_size=8, learning_rate=5e-3, precision="fp32", micro_batch_tokens=4096)


@cache
def rows() -> tuple[tuple[Question, ...], tuple[Rationale, ...]]:
    questions = tuple(
        Question.make(
            f"Tom has {number} apples. Tom buys {number + 3} more. How many apples does Tom have now?",
            kind="numeric", answer=str(2 * number + 3), split="train", source="test",
        )
        for number in range(20)
    )  # fmt: skip
    rationales = tuple(
        Rationale.make(
            question.id, f"Tom has {n} + {n + 3} = {2 * n + 3} apples.", teacher="reference", answer=question.answer
        )
        for n, question in enumerate(questions)
    )  # fmt: skip
    return questions, rationales


def context(config: Config = FAST, **changes: Any) -> FakeContext[Config]:
    questions, rationales = rows()
    settings: dict[str, Any] = {
        "config": config, "inputs": {"questions": questions, "rationales": rationales},
        "models": {"model": tiny_model()}, "seed": 3,
    }  # fmt: skip
    return FakeContext(**(settings | changes))


def student_bytes(ctx: FakeContext[Config]) -> dict[str, bytes]:
    CausalLm().run(ctx)
    return {path.name: path.read_bytes() for path in ctx.folders["student"].iterdir()}


@pytest.mark.parametrize(
    ("config", "files"),
    [
        (FAST, {"model.json", "adapter_config.json", "adapter_model.safetensors"}),
        (replace(FAST, lora=Lora(rank=2, dropout=0.2, targets=("q_proj", "v_proj"))), None),
        (
            replace(FAST, method="full", saved_precision="bf16"),
            {"model.json", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"},
        ),
    ],
)  # fmt: skip
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(
    config: Config, files: set[str] | None
) -> None:
    once, again, other = (student_bytes(context(config, seed=seed)) for seed in (3, 3, 4))

    assert once == again
    assert {name for name in once if once[name] != other[name]} >= {"model.json"}
    assert files is None or set(once) == files


def test_nothing_of_the_machine_stands_in_a_students_files() -> None:
    for config in (FAST, replace(FAST, method="full")):
        for name, data in student_bytes(context(config)).items():
            assert str(tiny_model()).encode() not in data, name
            assert b"transformers_version" not in data, name


def test_an_adapter_names_its_base_and_loads_on_top_of_it() -> None:
    ctx = context()
    CausalLm().run(ctx)
    folder = ctx.folders["student"]
    spec = read_spec(folder)

    assert spec.base == ctx.digest(CausalLm.model)
    assert ctx.references == [spec.base]
    assert (
        json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] is None
    )

    base = ModelFiles(tiny_model(), None, read_spec(tiny_model()), "base")
    adapted = ModelFiles(tiny_model(), folder, spec, "student")
    ids = torch.tensor([[5, 6, 7, 8]])
    logits = [
        load_causal_lm(files, precision="fp32", device="cpu")(input_ids=ids).logits
        for files in (base, adapted)
    ]
    assert not torch.allclose(*logits)


def test_a_whole_student_loads_with_the_weights_that_were_trained() -> None:
    ctx = context(replace(FAST, method="full"))
    CausalLm().run(ctx)
    folder = ctx.folders["student"]
    spec = read_spec(folder)

    assert spec.base is None
    assert spec.files == file_digests(folder, spec.files)
    assert Prompt.from_json(spec.prompt or {}) == PromptConfig().resolve()
    files = ModelFiles(folder, None, spec, "student")
    assert (
        load_causal_lm(files, precision="fp32", device="cpu").num_parameters()
        == spec.num_parameters
    )


def test_losses_and_tokens_are_noted_and_the_loss_falls() -> None:
    ctx = context(replace(FAST, method="full", epochs=4))
    CausalLm().run(ctx)

    losses = ctx.notes["losses"]
    assert len(losses) == 4
    assert losses[-1] < losses[0] - 0.5
    assert ctx.notes["steps"] == 12
    assert ctx.notes["examples"] == 20
    targets = [
        token
        for example in CausalLm().inspect(ctx, limit=20, epoch=1)
        for token in example.tokens
        if token.is_target
    ]
    assert ctx.notes["target_tokens"] == 4 * len(targets)


def test_a_student_says_how_much_of_its_text_the_tokenizer_does_not_know() -> None:
    questions, rationales = rows()
    strange = Rationale.make(questions[0].id, "Zoltan has 3 shells.", teacher="t", answer="3")
    told = context(inputs={"questions": questions, "rationales": (strange, *rationales[1:])})
    CausalLm().run(told)
    known = context()
    CausalLm().run(known)

    assert told.notes["unknown_tokens"] == 2
    assert re.search(r"; 2 of [\d,]+ tokens \(0\.\d%\) stand for text that the tokenizer does not know: kpod inspect-batch shows it$", told.notes["summary"])  # fmt: skip
    assert "unknown_tokens" not in known.notes


@pytest.mark.parametrize("config", [FAST, replace(FAST, method="full", lora=Lora())])
def test_a_student_that_was_interrupted_has_the_bytes_of_one_that_was_not(
    config: Config, tmp_path: Path
) -> None:
    expected = student_bytes(context(config))

    with pytest.raises(Interrupted, match="interrupted"):
        CausalLm().run(context(config, root=tmp_path, stop_at=4))

    assert student_bytes(context(config, root=tmp_path)) == expected


@pytest.mark.parametrize("change", [{"checkpoint_every_s": 0.0}, {"gradient_checkpointing": True}])
def test_a_volatile_setting_changes_no_byte(change: dict[str, Any]) -> None:
    config = replace(FAST, lora=Lora(dropout=0.2))

    assert student_bytes(context(replace(config, **change))) == student_bytes(context(config))


def test_inspect_shows_targets_weights_and_that_evaluation_sends_the_same_prompt() -> None:
    examples = list(CausalLm().inspect(context(), limit=3, epoch=1))

    assert len(examples) == 3
    for example in examples:
        assert example.has_evaluation_prompt
        said = [token.text for token in example.tokens if token.is_target]
        assert said[-1] == "<end>"
        assert said.count("<end>") == 1
        assert all(token.weight == float(token.is_target) for token in example.tokens)
        assert "".join(token.text for token in example.tokens if not token.is_target).endswith(
            "step."
        )


def test_answer_only_trains_on_the_questions_that_have_a_rationale() -> None:
    questions, rationales = rows()
    config = replace(FAST, prompt=PromptConfig(name="answer_only"))
    ctx = context(config, inputs={"questions": questions, "rationales": rationales[:12]})
    CausalLm().run(ctx)

    assert ctx.notes["examples"] == 12
    assert ctx.notes["questions_without_rationale"] == 8
    assert (read_spec(ctx.folders["student"]).prompt or {})["name"] == "answer_only"


def test_a_target_that_matches_no_layer_is_refused_with_the_names_that_would() -> None:
    with pytest.raises(StageError) as raised:
        CausalLm().run(context(replace(FAST, lora=Lora(targets=("c_attn", "q_proj")))))

    assert str(raised.value) == (
        "lora.targets: c_attn is no linear layer of Qwen3ForCausalLM\n"
        "allowed: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj,"
        " or a longer name such as model.layers.0.self_attn.q_proj"
    )


def test_a_sequence_longer_than_the_models_context_is_an_error() -> None:
    questions, rationales = rows()
    long = replace(rationales[0], text="Tom has 7 apples. " * 60)

    with pytest.raises(StageError, match="1 of 20 training sequences are longer than 256 tokens"):
        CausalLm().run(
            context(inputs={"questions": questions, "rationales": (long, *rationales[1:])})
        )


def test_settings_that_would_be_ignored_are_refused() -> None:
    with pytest.raises(SettingError, match="lora: method full has no adapter"):
        Config(method="full", lora=Lora(rank=4))
    with pytest.raises(SettingError, match="saved_precision: an adapter is stored in fp32"):
        Config(saved_precision="bf16")


@pytest.mark.parametrize(
    ("width", "has_fast_bf16", "expected"),
    [(32, True, "fp32"), (896, True, "bf16"), (896, False, "fp32")],
)
def test_precision_auto_is_what_this_machine_is_faster_with(
    width: int, has_fast_bf16: bool, expected: str, tmp_path: Path
) -> None:
    write_spec(tmp_path, replace(read_spec(tiny_model()), width=width))
    capability = Capability(
        device="cpu", has_fast_bf16=has_fast_bf16, memory_b=1 << 34, num_cpus=2, machine="x86_64"
    )

    resolved = CausalLm.resolve(Config(), capability, {"model": tmp_path})

    assert resolved == replace(Config(), precision=expected, micro_batch_tokens=4096)  # type: ignore[arg-type]


@pytest.mark.parametrize("told", ["fp16", "bf16"])
def test_a_mixed_precision_that_accelerate_was_told_is_not_read_and_that_is_recorded(
    told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", told)
    ctx = context(replace(FAST, max_steps=1))

    CausalLm().run(ctx)

    said = (
        f"accelerate was told mixed_precision: {told}, which is not read; precision: fp32 says it"
    )
    assert ctx.notes["mixed_precision"] == said
