"""Tiny models with random weights and a word-level tokenizer, made once a session: for every test that needs a model.

    folder = tiny_model("qwen3")          # a Model folder with model.json, as a stage would have written it
    files = tiny_files("llama")           # the same, located: for load_causal_lm and load_tokenizer

The folder is shared: copy it before you change it. Random weights say nonsense, but always the same nonsense.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from typing import Literal

from kpod.stages._lm.artifact import ModelFiles, read_spec
from kpod.stages.model.from_config import Config, FromConfig
from tests.stages.fakes import FakeContext

_ENGLISH = (
    "Let's think step by Therefore the answer The is Tom Anna has had gives gets eats buys apples pens books"
    " more left then and How many does have now so There are in each box boxes of she he with"
)
WORDS = (
    *[str(number) for number in range(100)],
    *["Q:", "A:", ".", ",", "?", "+", "-", "*", "/", "=", "(", ")", ":", "%", "$"],
    *_ENGLISH.split(),
)


Tiny = Literal["qwen3", "llama", "t5"]
# Ten times the usual, so that a random model's greedy texts vary instead of repeating one word; of T5's own, twice is enough.
_INIT_RANGE = {"qwen3": 0.2, "llama": 0.2, "t5": 0.04}


@cache
def _root() -> Path:
    root = Path(tempfile.mkdtemp(prefix="kpod-tiny-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


@cache
def tiny_words() -> Path:
    """A word list, one a line."""
    path = _root() / "words.txt"
    path.write_text("\n".join(dict.fromkeys(WORDS)) + "\n", encoding="utf-8")
    return path


@cache
def tiny_model(
    architecture: Tiny = "qwen3", *, seed: int = 0, init_range: float | None = None
) -> Path:
    """The folder of a model of width 32 with 2 layers, 4 heads, 2 key heads (T5: 4) and 256 positions.

    T5 has 2 layers a side and, as Flan-T5, an output layer of its own.
    """
    is_t5 = architecture == "t5"
    deviation = _INIT_RANGE[architecture] if init_range is None else init_range
    config = Config(
        architecture=architecture, width=32, layers=2, heads=4, kv_heads=None if is_t5 else 2, ff_width=64,
        max_positions=256, tie_embeddings=not is_t5, init_range=deviation, seed=seed, words=str(tiny_words()),
    )  # fmt: skip
    root = _root() / f"{architecture}-{seed}-{deviation}"
    ctx = FakeContext(config=config, sources={"words": tiny_words()}, seed=seed, root=root)
    FromConfig().run(ctx)
    return ctx.folders["model"]


def tiny_files(architecture: Tiny = "qwen3", *, seed: int = 0) -> ModelFiles:
    """The same model, located."""
    folder = tiny_model(architecture, seed=seed)
    return ModelFiles(folder, None, read_spec(folder), f"tiny-{architecture}-{seed}")
