"""The engine: what it writes does not depend on batches, is written once, and outlives an interruption."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import Interrupted, SettingError, StageError
from kpod.runner.texts import GeneratedText, TextStore
from kpod.stages._lm.decoding import Decoding, check_sampling, sampled_tokens
from kpod.stages._lm.generation import Progress, Request, generate_texts
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


class _CountingModel:
    """The model, with the number of calls."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.num_calls = 0
        self.num_rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        self.num_calls += 1
        self.num_rows.append(len(inputs["input_ids"]))
        return self.model(**inputs)


@cache
def _model(architecture: str = "qwen3") -> Any:
    return load_causal_lm(tiny_files(architecture), precision="fp32", device="cpu")  # type: ignore[arg-type]


@cache
def _tokenizer() -> Any:
    return load_tokenizer(tiny_files())


def _requests(samples: int = 1) -> list[Request]:
    return [
        Request(
            prompt_ids=tuple(_tokenizer()(text)["input_ids"]), sample=sample, asked_by=f"q{number}"
        )
        for number, text in enumerate(QUESTIONS)
        for sample in range(samples)
    ]


def _texts(
    store: TextStore,
    requests: Sequence[Request],
    *,
    model: Any = None,
    batch_tokens: int = 100_000,
    decoding: Decoding | None = None,
    limits: Limits | None = None,
    on_progress: Any = lambda _: None,
) -> list[GeneratedText]:
    return generate_texts(
        lambda: model or _model(), _tokenizer(), requests, decoding or Decoding(max_new_tokens=24),
        limits=limits or Limits(frozenset({2}), 256), batch_tokens=batch_tokens, store=store, model_facts=FACTS,
        on_progress=on_progress,
    )  # fmt: skip


@contextmanager
def _store(tmp_path: Path, name: str = "texts") -> Iterator[TextStore]:
    store = TextStore(tmp_path / f"{name}.sqlite")
    yield store
    store.close()


def _one_by_one(model: Any, request: Request, max_new_tokens: int) -> str:
    """What transformers itself says to one prompt alone."""
    ids = torch.tensor([request.prompt_ids])
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False
    )
    return str(_tokenizer().decode(said[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_greedy_texts_are_those_of_transformers_one_by_one_at_any_batch_size(
    tmp_path: Path, architecture: str
) -> None:
    model, requests = _model(architecture), _requests()
    budgets = {"alone": 1, "some": 120, "all": 100_000}

    found = {}
    for name, budget in budgets.items():
        with _store(tmp_path, name) as store:
            found[name] = [
                text.text for text in _texts(store, requests, model=model, batch_tokens=budget)
            ]

    expected = [_one_by_one(model, request, 24) for request in requests]
    assert found == dict.fromkeys(budgets, expected)
    assert len(set(expected)) == len(expected)


def test_a_batch_is_one_model_call_a_token(tmp_path: Path) -> None:
    model = _CountingModel(_model())
    with _store(tmp_path) as store:
        _texts(store, _requests(), model=model, limits=Limits(frozenset(), 256))

    assert model.num_rows == [len(QUESTIONS)] * 24


def test_a_second_request_loads_no_model(tmp_path: Path) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    with _store(tmp_path) as store:
        first = _texts(store, _requests())
        again = generate_texts(
            load, _tokenizer(), _requests(), Decoding(max_new_tokens=24), limits=Limits(frozenset({2}), 256),
            batch_tokens=7, store=store, model_facts=FACTS, on_progress=lambda _: None,
        )  # fmt: skip

    assert again == first


def test_more_and_reordered_requests_pay_only_for_what_is_new(tmp_path: Path) -> None:
    model = _CountingModel(_model())
    with _store(tmp_path) as store:
        known = _texts(store, _requests()[:6])
        found = _texts(
            store,
            [*reversed(_requests()), _requests()[0]],
            model=model,
            limits=Limits(frozenset({2}), 256),
        )

    assert model.num_rows[0] == 3
    assert found[-7:-1] == known[::-1]
    assert found[-1] == known[0]


@pytest.mark.parametrize(
    "change",
    [
        {"max_new_tokens": 23},
        {"stop": ("x",)},
        {"temperature": 1.0},
        {"temperature": 1.0, "seed": 1},
    ],
)
def test_another_decoding_is_another_text(tmp_path: Path, change: dict[str, Any]) -> None:
    with _store(tmp_path) as store:
        _texts(store, _requests()[:1])
        _texts(store, _requests()[:1], decoding=Decoding(**{"max_new_tokens": 24, **change}))

        assert store.count() == 2


def test_a_text_is_stored_with_what_wrote_it(tmp_path: Path) -> None:
    with _store(tmp_path) as store:
        _texts(store, _requests()[:1], batch_tokens=99)
    with closing(sqlite3.connect(tmp_path / "texts.sqlite")) as connection:
        ((origin,),) = connection.execute("SELECT provenance FROM texts")

    assert json.loads(origin) == {
        "engine": "kpod.local/1",
        "model": "tiny",
        "precision": "fp32",
        "device": "cpu",
        "batch_tokens": 99,
        "torch": version("torch"),
        "transformers": version("transformers"),
    }


def test_texts_that_ended_are_kept_when_the_run_is_interrupted(tmp_path: Path) -> None:
    def stop_after_two(progress: Progress) -> None:
        if progress.done >= 2:
            raise Interrupted("asked to stop")

    with _store(tmp_path) as store:
        with pytest.raises(Interrupted, match="asked to stop"):
            _texts(store, _requests(), batch_tokens=1, on_progress=stop_after_two)
        kept = store.count()
        model = _CountingModel(_model())
        found = _texts(store, _requests(), model=model)
    with _store(tmp_path, "undisturbed") as store:
        undisturbed = _texts(store, _requests())

    assert kept == 2
    assert model.num_rows[0] == len(QUESTIONS) - 2
    assert found == undisturbed


def test_a_text_ends_at_an_end_token_which_is_not_part_of_it(tmp_path: Path) -> None:
    request = _requests()[0]
    with _store(tmp_path) as store:
        (whole,) = _texts(store, [request], limits=Limits(frozenset(), 256))
        ids = _tokenizer()(whole.text)["input_ids"]
        end = ids[3]
        (cut,) = _texts(store, [request], limits=Limits(frozenset({end}), 256))

    length = ids.index(end)
    assert (whole.finish, whole.completion_tokens) == ("length", 24)
    assert (cut.finish, cut.completion_tokens) == ("stop", length)
    assert cut.text == _tokenizer().decode(ids[:length])


def test_a_text_ends_before_a_stop_text(tmp_path: Path) -> None:
    requests = _requests()
    with _store(tmp_path) as store:
        whole = _texts(store, requests, limits=Limits(frozenset(), 256))
        stop = whole[1].text.split()[4]
        cut = _texts(
            store,
            requests,
            decoding=Decoding(max_new_tokens=24, stop=(stop,)),
            limits=Limits(frozenset(), 256),
        )

    assert [text.text for text in cut] == [text.text.partition(stop)[0] for text in whole]
    assert [text.finish for text in cut] == [
        "stop" if stop in text.text else "length" for text in whole
    ]
    assert cut[1].finish == "stop"


def test_rows_that_ended_leave_the_batch(tmp_path: Path) -> None:
    model = _CountingModel(_model())
    with _store(tmp_path) as store:
        whole = _texts(store, _requests(), limits=Limits(frozenset(), 256))
        ends = frozenset(_tokenizer()(whole[0].text.split()[2])["input_ids"])
        cut = _texts(store, _requests(), model=model, limits=Limits(ends, 256))

    written = [min(text.completion_tokens + (text.finish == "stop"), 24) for text in cut]
    assert sum(model.num_rows) == sum(written) < 24 * len(QUESTIONS)


def test_a_prompt_longer_than_the_context_is_refused_by_question(tmp_path: Path) -> None:
    long = Request(prompt_ids=(5,) * 40, asked_by="q_long")

    with (
        _store(tmp_path) as store,
        pytest.raises(
            StageError,
            match="question q_long: its prompt has 40 tokens, but the model's context holds 40",
        ),
    ):
        _texts(store, [*_requests(), long], limits=Limits(frozenset({2}), 40))


def test_a_text_may_grow_to_the_end_of_the_context_and_no_further(tmp_path: Path) -> None:
    request = _requests()[0]
    room = 5
    with _store(tmp_path) as store:
        (text,) = _texts(
            store, [request], limits=Limits(frozenset(), len(request.prompt_ids) + room)
        )

    assert (text.completion_tokens, text.finish) == (room, "length")


def test_an_empty_prompt_is_refused_by_question(tmp_path: Path) -> None:
    with (
        _store(tmp_path) as store,
        pytest.raises(StageError, match="question q1: its prompt has no token"),
    ):
        _texts(store, [Request(prompt_ids=(), asked_by="q1")])


def test_a_sample_does_not_depend_on_its_batch_and_samples_differ(tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=12, temperature=1.0, top_p=0.95, seed=3)
    with _store(tmp_path, "a") as store:
        together = _texts(store, _requests(samples=3), decoding=decoding)
    with _store(tmp_path, "b") as store:
        alone = [
            _texts(store, [request], decoding=decoding)[0]
            for request in reversed(_requests(samples=3))
        ]

    assert alone[::-1] == together
    assert len({text.text for text in together}) == len(together)


def test_sampled_frequencies_are_the_probabilities() -> None:
    chance_V = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniform_B = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    logits_BV = chance_V.log().expand(len(uniform_B), -1)

    share = sampled_tokens(logits_BV, uniform_B, temperature=1.0, top_p=1.0).bincount(
        minlength=4
    ) / len(uniform_B)
    nucleus = sampled_tokens(logits_BV, uniform_B, temperature=1.0, top_p=0.8).bincount(
        minlength=4
    ) / len(uniform_B)

    # 10,000 evenly spaced draws: a share is right to two of them.
    assert torch.allclose(share, chance_V, atol=2e-4)
    assert torch.allclose(nucleus, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=2e-4)


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 5),
    st.floats(0.01, 1),
)
def test_sampling_always_gives_a_token_of_the_nucleus(
    logits: list[float], uniform: float, temperature: float, top_p: float
) -> None:
    logits_BV = torch.tensor([logits])

    token = int(
        sampled_tokens(
            logits_BV,
            torch.tensor([uniform], dtype=torch.float64),
            temperature=temperature,
            top_p=top_p,
        )
    )

    chance = (logits_BV / temperature).softmax(-1).double()[0]
    likelier = chance[chance > chance[token]].sum().item()
    # All that is likelier is less than top_p, else the token was not needed; 1e-6 for the rounding of the sums.
    assert likelier < top_p + 1e-6


def test_greedy_samples_and_a_greedy_top_p_are_refused() -> None:
    with pytest.raises(
        SettingError, match="samples: got 4 at temperature 0, where all samples are the same text"
    ):
        check_sampling(temperature=0, top_p=1, samples=4)
    with pytest.raises(
        SettingError, match=r"top_p: got 0\.9 at temperature 0, where it has no effect"
    ):
        check_sampling(temperature=0, top_p=0.9, samples=1)
