"""What the tests of the engine share: prompts of unlike length, the tiny model, and a store of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from kpod.runner.texts import GeneratedText, TextStore
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.generation import Request, generate_texts
from kpod.stages._lm.loading import Limits, load_causal_lm, load_tokenizer
from tests.stages.tiny_models import tiny_files

QUESTIONS = [
    "Q: Tom has 3 apples. A:",
    "Q: Anna has 12 pens and gets 7 more pens. How many pens does she have now? A:",
    "Q: There are 4 boxes with 5 books in each box. How many books are there? A: Let's think step by step.",
    "Tom",
    "Q: Tom eats 2 apples. A: The answer is",
    "7 + 8 =",
    "Q: Anna buys 9 books, gives 4 books and then gets 2 books. How many books does Anna have? A:",
    "How many",
    "(3 + 4) * 5 =",
]
FACTS = {"model": "tiny", "precision": "fp32"}


class CountingModel:
    """The model, with the number of calls and the rows and tokens that went in."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.num_rows: list[int] = []
        self.num_tokens = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        self.num_rows.append(len(inputs["input_ids"]))
        self.num_tokens += inputs["input_ids"].numel()
        return self.model(**inputs)


@cache
def tiny_lm(architecture: str = "qwen3") -> Any:
    """The tiny model, loaded."""
    return load_causal_lm(tiny_files(architecture), precision="fp32", device="cpu")  # type: ignore[arg-type]


@cache
def tiny_tokenizer() -> Any:
    """Its tokenizer."""
    return load_tokenizer(tiny_files())


def requests_of(questions: Sequence[str] = QUESTIONS, *, samples: int = 1) -> list[Request]:
    """A request for every sample of every question."""
    return [
        Request(
            prompt_ids=tuple(tiny_tokenizer()(text)["input_ids"]),
            sample=sample,
            asked_by=f"q{number}",
        )
        for number, text in enumerate(questions)
        for sample in range(samples)
    ]


def texts_of(
    store: TextStore,
    requests: Sequence[Request],
    *,
    model: Any = None,
    batch_tokens: int = 100_000,
    decoding: Decoding | None = None,
    limits: Limits | None = None,
    on_progress: Any = lambda _: None,
    **settings: Any,
) -> list[GeneratedText]:
    """What the engine writes."""
    return generate_texts(
        lambda: model or tiny_lm(), tiny_tokenizer(), requests, decoding or Decoding(max_new_tokens=24),
        limits=limits or Limits(frozenset({2}), 256), batch_tokens=batch_tokens, store=store, model_facts=FACTS,
        on_progress=on_progress, **settings,
    )  # fmt: skip


@contextmanager
def store_at(folder: Path, name: str = "texts") -> Iterator[TextStore]:
    """A store, closed afterwards."""
    store = TextStore(folder / f"{name}.sqlite")
    yield store
    store.close()
