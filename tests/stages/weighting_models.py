"""Small models and rationales for the tests of token weighting: decoder-only and encoder-decoder, with one word list."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

from kpod.runner import Question, Rationale
from kpod.stages._lm.artifact import ModelFiles, write_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages.weighting._items import Item
from kpod.stages.weighting._learning import Files, encode, new_module
from kpod.stages.weighting._objective import Module
from kpod.stages.weighting.mask_learning import Config
from tests.stages.tiny_models import _root, tiny_files, tiny_model


@cache
def tiny_t5(width: int = 24) -> ModelFiles:
    """A T5 of random weights with the tokenizer of the other tiny models."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    folder = _root() / f"t5-{width}"
    config = T5Config(
        vocab_size=200, d_model=width, d_kv=8, d_ff=48, num_layers=2, num_heads=3, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=2, initializer_factor=2.0, dropout_rate=0.1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        T5ForConditionalGeneration(config).save_pretrained(folder)
    for path in Path(tiny_model()).glob("tokenizer*"):
        shutil.copy(path, folder)
    spec = checkpoint_spec(folder, is_pointer=False)
    write_spec(folder, spec)
    return ModelFiles(folder, None, spec, f"tiny-t5-{width}")


def predictor_files(kind: str) -> Files:
    """The student (Qwen) with itself, a LLaMA or a T5 of another width as predictor."""
    student = tiny_files("qwen3")
    others = {"copy": student, "llama": tiny_files("llama", seed=1)}
    return Files(student, others[kind] if kind in others else tiny_t5())


def pair(
    number: int, *, answer: str | None = "", rationale_answer: str | None = None
) -> tuple[Question, Rationale]:
    """A question of two sums and its worked solution; lengths vary with the number."""
    a, b, c = 3 + number % 20, 2 + number % 7, 1 + number % 5
    gold = str(a + b - c) if answer == "" else answer
    question = Question.make(
        f"Tom has {a} apples. Tom gets {b} more. Then Tom gives {c} apples. How many apples does Tom have now?",
        kind="numeric", answer=gold, split="train", source="test",
    )  # fmt: skip
    more = " Tom eats apples." * (number % 3)
    text = f"Tom has {a} + {b} = {a + b} apples. Tom has {a + b} - {c} = {a + b - c} apples.{more}"
    return question, Rationale.make(question.id, text, teacher="test", answer=rationale_answer)


def pairs(count: int) -> tuple[list[Question], list[Rationale]]:
    """So many of them, questions and rationales."""
    rows = [pair(number) for number in range(count)]
    return [question for question, _ in rows], [rationale for _, rationale in rows]


def fresh(
    kind: str = "copy", *, count: int = 4, seed: int = 0, **settings: Any
) -> tuple[Module, list[Item]]:
    """An untrained module, but with an output layer that already tells tokens apart, and rationales for it."""
    import torch

    files = predictor_files(kind)
    items = encode(files, *pairs(count))
    config = Config(**{"precision": "fp32", **settings})
    module = new_module(config, files, items, seed=seed, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        last = module.weighter.layers["mlp.1.weight"]
        last.copy_(torch.randn(last.shape, generator=generator))
    return module, items
