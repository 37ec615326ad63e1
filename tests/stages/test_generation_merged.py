"""A student's adapter is merged into the weights before it writes: the same logits within a bound, and the same texts."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch

from kpod.runner import Question, Rationale
from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages._lm.generation import Request
from kpod.stages._lm.loading import load_lm
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
