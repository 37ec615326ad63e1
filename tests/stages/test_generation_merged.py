"""A student's adapter is merged into the weights before it writes: the same logits within a bound, and the same texts."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kpod.runner import Question, Rationale
from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.generation import Request
from kpod.stages._lm.loading import load_lm, load_tokenizer
from kpod.stages._lm.merging import LEAST_KEPT_FRAC, kept_frac
from kpod.stages._lm.speaking import write_texts
from kpod.stages.student._adapter import Lora
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_files, tiny_model
from tests.stages.tiny_texts import requests_of, store_at, texts_of

# Largest difference of a logit in fp32. Merged, W x + s B (A x) is (W + s B A) x: the same sum in another order, about 1e-6 of
# logits that are a few units large; two orders of magnitude more is what a fault, such as a sum in bf16 (1e-2), would pass.
LARGEST_DIFFERENCE = 1e-4


def _train(lora: Lora) -> FakeContext[Config]:
    questions = [
        Question.make(
            f"Tom has {number} apples. How many apples does Tom have now?",
            kind="numeric", answer=str(number), split="train", source="test",
        )
        for number in range(12)
    ]  # fmt: skip
    rationales = [
        Rationale.make(one.id, f"Tom has {one.answer} apples.", teacher="test", answer=one.answer)
        for one in questions
    ]
    ctx = FakeContext(
        config=Config(
            epochs=4,
            batch_size=4,
            learning_rate=5e-2,
            precision="fp32",
            micro_batch_tokens=4096,
            lora=lora,
        ),
        inputs={"questions": questions, "rationales": rationales},
        models={"model": tiny_model()},
    )
    CausalLm().run(ctx)
    return ctx


@cache
def _student(lora: Lora) -> tuple[ModelFiles, FakeContext[Config]]:
    """The student located, and its context, which keeps its folder."""
    ctx = _train(lora)
    folder = ctx.folders["student"]
    return ModelFiles(tiny_model(), folder, read_spec(folder), "student"), ctx


@pytest.mark.parametrize(
    "lora", [Lora(rank=4), Lora(rank=4, rslora=True), Lora(rank=4, dora=True)], ids=["lora", "rslora", "dora"]
)  # fmt: skip
def test_a_merged_student_has_the_logits_of_the_adapter_beside_the_weights(lora: Lora) -> None:
    files, _ = _student(lora)
    ids_BT = torch.randint(5, 150, (8, 40), generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        base, merged, apart = (
            load_lm(one, precision="fp32", device="cpu", merge=merge)(input_ids=ids_BT).logits
            for one, merge in ((tiny_files(), True), (files, True), (files, False))
        )

    assert (merged - apart).abs().max() < LARGEST_DIFFERENCE
    assert (apart - base).abs().max() > 0.5, "the adapter was trained"


def test_a_merged_student_writes_the_greedy_texts_of_the_adapter_beside_the_weights(
    tmp_path: Path,
) -> None:
    files, _ = _student(Lora(rank=4))
    asked: list[Request] = requests_of()

    said = {}
    for name, one, merge in (("base", tiny_files(), True), ("merged", files, True), ("apart", files, False)):  # fmt: skip
        model = load_lm(one, precision="fp32", device="cpu", merge=merge)
        with store_at(tmp_path, name) as store:
            said[name] = [text.text for text in texts_of(store, asked, model=model)]

    assert said["merged"] == said["apart"]
    assert said["merged"] != said["base"]


def _faint(folder: Path, *, scale: float) -> ModelFiles:
    """The same student over a base that is stored in bf16, as most are, with an adapter that adds so much less."""
    files, _ = _student(Lora(rank=4))
    assert files.adapter is not None
    shutil.copytree(files.weights, folder / "base")
    shutil.copytree(files.adapter, folder / "adapter")
    for path, change in (
        (folder / "base" / "model.safetensors", lambda _, value: value.bfloat16()),
        (
            folder / "adapter" / "adapter_model.safetensors",
            lambda name, value: value * scale if "lora_B" in name else value,
        ),
    ):
        save_file({name: change(name, value) for name, value in load_file(path).items()}, path, metadata={"format": "pt"})  # fmt: skip
    return files._replace(
        weights=folder / "base", adapter=folder / "adapter", digest=f"faint-{scale}"
    )


@pytest.mark.parametrize("dora", [False, True])
def test_what_rounding_leaves_of_an_adapter_is_measured_and_the_model_stays_as_it_is(
    dora: bool,
) -> None:
    files, _ = _student(Lora(rank=4, dora=dora))
    adapted = load_lm(files, precision="fp32", device="cpu", merge=False)
    ids_BT = torch.tensor([[5, 6, 7]])
    with torch.inference_mode():
        before = adapted(input_ids=ids_BT).logits
        fracs = {dtype: kept_frac(adapted, dtype) for dtype in (torch.float32, torch.bfloat16)}
        after = adapted(input_ids=ids_BT).logits

    assert fracs[torch.float32] == pytest.approx(1.0, abs=1e-5)
    assert LEAST_KEPT_FRAC < fracs[torch.bfloat16] < 1.05
    assert torch.equal(before, after)


def test_an_adapter_that_rounding_would_lose_stays_beside_the_weights_in_bf16(
    tmp_path: Path,
) -> None:
    files = _faint(tmp_path / "faint", scale=1e-3)
    ids_BT = torch.randint(5, 150, (8, 40), generator=torch.Generator().manual_seed(0))

    with torch.inference_mode():
        bf16, fp32 = (load_lm(files, precision=one, device="cpu") for one in ("bf16", "fp32"))  # type: ignore[arg-type]
        apart = load_lm(files, precision="bf16", device="cpu", merge=False)
        same = torch.equal(bf16(input_ids=ids_BT).logits, apart(input_ids=ids_BT).logits)

    assert same
    assert hasattr(bf16, "peft_config")
    assert not hasattr(fp32, "peft_config")
    strong = _faint(tmp_path / "strong", scale=1.0)
    assert not hasattr(load_lm(strong, precision="bf16", device="cpu"), "peft_config")


def test_a_student_whose_adapter_stays_beside_writes_and_says_so(tmp_path: Path) -> None:
    asked, said = requests_of(), {}
    for name, scale in (("faint", 1e-3), ("strong", 1.0)):
        one = _faint(tmp_path / name / "model", scale=scale)
        ctx = FakeContext(config=None, root=tmp_path / name)
        texts = write_texts(
            ctx, one, load_tokenizer(one), asked, Decoding(max_new_tokens=8), precision="bf16",
            batch_tokens=4096, end_ids=frozenset(),
        )  # fmt: skip
        said[name] = ([text.text for text in texts], ctx.notes.get("adapter"))

    assert all(said["faint"][0])
    assert said["faint"][1] == "stays beside the weights: rounded to bf16 with them, less than 95% of what it adds would be left"  # fmt: skip
    assert said["strong"][1] is None
