"""An exported student answers in plain transformers and peft what it answers in kpod; and a whole run's exports do so too."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Question, Rationale, StageError
from kpod.stages._lm.artifact import read_spec, write_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.exported import adds_special_tokens, answers, choices_apart
from kpod.stages._lm.exporting import Parts, write_adapter, write_merged
from kpod.stages._lm.family import family
from kpod.stages._lm.generation import Request, generate_texts
from kpod.stages._lm.loading import load_lm, load_tokenizer, read_limits
from kpod.stages._lm.prompts import PromptConfig, model_inputs
from kpod.stages.model import from_config
from kpod.stages.student._adapter import Lora
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from tests.e2e.recipes import ROOT
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model
from tests.stages.tiny_texts import store_at

MOST_TOKENS = 24
PROMPT = PromptConfig().resolve().to_json()


def questions_of(number: int) -> list[Question]:
    """Questions in the tiny models' words."""
    return [
        Question.make(
            f"Tom has {count} apples. How many apples does Tom have now?",
            kind="numeric", answer=str(count), split="train", source="test",
        )
        for count in range(number)
    ]  # fmt: skip


@cache
def trained() -> tuple[Parts, FakeContext[Config]]:
    """A student with an adapter, and the context that keeps its folder."""
    questions = questions_of(8)
    said = [
        Rationale.make(one.id, f"Tom has {one.answer} apples.", teacher="test", answer=one.answer)
        for one in questions
    ]
    ctx = FakeContext(
        config=Config(
            epochs=2, batch_size=4, learning_rate=5e-2, precision="fp32", micro_batch_tokens=4096, lora=Lora(rank=4)
        ),
        inputs={"questions": questions, "rationales": said},
        models={"model": tiny_model()},
    )  # fmt: skip
    CausalLm().run(ctx)
    base = tiny_model()
    return Parts(student=ctx.folders["student"], base=base, base_files=base, base_stage="base"), ctx


def in_kpod(
    parts: Parts, folder: Path, questions: list[Question], *, num_tokens: int = MOST_TOKENS
) -> list[str]:
    """What kpod's own engine has the student say."""
    tokenizer, kind = load_tokenizer(parts.files), family(parts.spec)
    sent = model_inputs(tokenizer, parts.prompt, questions, family=kind)
    model = load_lm(parts.files, precision="fp32", device="cpu")
    with store_at(folder) as store:
        said = generate_texts(
            lambda: model, tokenizer, [Request(prompt_ids=tuple(ids)) for ids in sent],
            Decoding(max_new_tokens=num_tokens), limits=read_limits(parts.files, tokenizer), batch_tokens=10_000,
            store=store, model_facts={}, on_progress=lambda _: None, family=kind,
        )  # fmt: skip
    return [one.text for one in said]


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_an_export_says_in_plain_libraries_what_the_student_says_in_kpod(
    tmp_path: Path, form: str
) -> None:
    parts, _ = trained()
    to = tmp_path / "out"
    to.mkdir()
    if form == "adapter":
        write_adapter(parts, to, base_name=str(to / "base"), revision=None)
    else:
        write_merged(parts, to, dtype="fp32")

    said = answers(parts, to, questions_of(8), max_new_tokens=MOST_TOKENS).texts

    assert said == in_kpod(parts, tmp_path, questions_of(8))
    settings = json.loads((to / "generation_config.json").read_text("utf-8"))
    assert settings["do_sample"] is False
    assert settings["eos_token_id"]


def same(choices: Sequence[int], others: Sequence[int]) -> int:
    return sum(one == other for one, other in zip(choices, others, strict=True))


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_an_export_chooses_the_tokens_that_its_student_said_and_not_those_that_another_did(
    tmp_path: Path, form: str
) -> None:
    parts, _ = trained()
    if form == "adapter":
        write_adapter(parts, tmp_path, base_name=str(tmp_path / "base"), revision=None)
    else:
        write_merged(parts, tmp_path, dtype="bf16")
    questions = questions_of(8)
    own = in_kpod(parts, tmp_path, questions)

    said, other = (
        answers(parts, tmp_path, questions, max_new_tokens=2, evaluated=texts)
        for texts in (own, [f"{number} " * 12 for number in range(8)])
    )

    assert len(said.known) > 40
    assert same(said.choices, said.known) > 0.9 * len(said.known)
    assert same(other.choices, other.known) < 0.5 * len(other.known)
    apart = choices_apart(parts, tmp_path, questions, own, dtype="fp32")
    assert same(apart, said.known) == len(said.known)


def test_an_adapter_is_found_with_its_base_by_peft_s_own_loader(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    parts, _ = trained()
    write_adapter(parts, tmp_path, base_name=str(tmp_path / "base"), revision=None)

    model: Any = AutoPeftModelForCausalLM.from_pretrained(str(tmp_path))

    assert model.peft_config["default"].r == 4


def test_a_base_of_the_hub_is_named_with_its_commit_and_not_copied(tmp_path: Path) -> None:
    parts, _ = trained()

    write_adapter(parts, tmp_path, base_name="owner/name", revision="0123abcd")

    row = json.loads((tmp_path / "adapter_config.json").read_text("utf-8"))
    assert (row["base_model_name_or_path"], row["revision"]) == ("owner/name", "0123abcd")
    assert not (tmp_path / "base").exists()
    assert len(answers(parts, tmp_path, questions_of(1), max_new_tokens=2).texts) == 1


def test_a_merged_student_is_stored_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    from safetensors import safe_open

    parts, _ = trained()

    write_merged(parts, tmp_path, dtype="bf16")

    with safe_open(str(tmp_path / "model.safetensors"), framework="pt") as file:
        kinds = {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118 - not a dict
    assert kinds == {"torch.bfloat16"}
    assert json.loads((tmp_path / "config.json").read_text("utf-8"))["dtype"] == "bfloat16"


def test_a_student_that_was_trained_whole_is_exported_byte_for_byte(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    shutil.copytree(tiny_model(), whole)
    spec = replace(read_spec(whole), prompt=PROMPT)
    write_spec(whole, spec)
    (tmp_path / "out").mkdir()

    write_merged(Parts(student=whole), tmp_path / "out", dtype="fp32")

    same = {
        path.name for path in (tmp_path / "out").iterdir() if path.read_bytes() == (whole / path.name).read_bytes()
    }  # fmt: skip
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= same
    assert not (tmp_path / "out" / "model.json").exists()


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_base_that_is_gone_or_changed_is_named_by_digest_with_the_way_to_get_it_back(
    tmp_path: Path, is_gone: bool
) -> None:
    parts, _ = trained()
    files = tmp_path / "files"
    shutil.copytree(tiny_model(), files)
    if is_gone:
        (files / "model.safetensors").unlink()
    else:
        (files / "model.safetensors").write_bytes(b"other weights")
    broken = Parts(student=parts.student, base=tiny_model(), base_files=files, base_stage="base")

    told = rf"base model {str(parts.spec.base)[:12]} .* model\.safetensors\n.*--force base"
    with pytest.raises(StageError, match=told):
        write_merged(broken, tmp_path, dtype="fp32")


def test_a_tokenizer_that_reads_prompts_otherwise_than_kpod_is_refused(tmp_path: Path) -> None:
    whole = tmp_path / "t5"
    shutil.copytree(tiny_model("t5"), whole)
    write_spec(whole, replace(read_spec(whole), prompt=PROMPT))

    with pytest.raises(StageError, match="reads a prompt otherwise than kpod does"):
        adds_special_tokens(Parts(student=whole), whole, questions_of(1)[0])


def test_a_t5_with_the_sentencepiece_file_alone_reads_and_answers_in_plain_libraries(
    tmp_path: Path,
) -> None:
    spiece = ROOT / ".." / "shared" / "tokenizers" / "flan-t5" / "spiece.model"
    if not spiece.is_file():
        pytest.skip("shared/tokenizers/flan-t5/spiece.model is not beside this checkout")
    made = from_config.Config(
        architecture="t5", width=16, layers=1, heads=2, ff_width=16, max_positions=128,
        tie_embeddings=False, init_range=0.04, tokenizer=str(spiece),
    )  # fmt: skip
    ctx = FakeContext(config=made, sources={"tokenizer": spiece}, seed=0, root=tmp_path / "made")
    from_config.FromConfig().run(ctx)
    whole = ctx.folders["model"]
    for path in whole.glob("tokenizer*"):
        path.unlink()
    shutil.copyfile(spiece, whole / "spiece.model")
    write_spec(whole, checkpoint_spec(whole, is_pointer=False, prompt=PROMPT))
    parts, out = Parts(student=whole), tmp_path / "out"
    out.mkdir()

    write_merged(parts, out, dtype="fp32")
    said = answers(parts, out, questions_of(2), max_new_tokens=8).texts

    assert adds_special_tokens(parts, out, questions_of(1)[0])
    assert said == in_kpod(parts, tmp_path, questions_of(2), num_tokens=8)
