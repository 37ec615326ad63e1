"""The engine: what it writes does not depend on batches, is written once, and outlives an interruption."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, StageError
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.generation import Progress, Request, generate_texts
from kpod.stages._lm.loading import Limits
from tests.stages.tiny_texts import (
    FACTS,
    QUESTIONS,
    CountingModel,
    requests_of,
    store_at,
    texts_of,
    tiny_lm,
    tiny_tokenizer,
)


def _one_by_one(model: Any, request: Request, max_new_tokens: int) -> str:
    """What transformers itself says to one prompt alone."""
    ids = torch.tensor([request.prompt_ids])
    said = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_new_tokens, do_sample=False
    )
    return str(tiny_tokenizer().decode(said[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_greedy_texts_are_those_of_transformers_one_by_one_at_any_batch_size(
    tmp_path: Path, architecture: str
) -> None:
    model, requests = tiny_lm(architecture), requests_of()
    budgets = {"alone": 1, "some": 120, "all": 100_000}

    found = {}
    for name, budget in budgets.items():
        with store_at(tmp_path, name) as store:
            found[name] = [
                text.text for text in texts_of(store, requests, model=model, batch_tokens=budget)
            ]

    expected = [_one_by_one(model, request, 24) for request in requests]
    assert found == dict.fromkeys(budgets, expected)
    assert len(set(expected)) == len(expected)


def test_a_batch_is_one_model_call_a_token(tmp_path: Path) -> None:
    model = CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        texts_of(store, requests_of(), model=model, limits=Limits(frozenset(), 256))

    assert model.num_rows == [len(QUESTIONS)] * 24


def test_a_second_request_loads_no_model(tmp_path: Path) -> None:
    def load() -> Any:
        raise AssertionError("loaded")

    with store_at(tmp_path) as store:
        first = texts_of(store, requests_of())
        again = generate_texts(
            load, tiny_tokenizer(), requests_of(), Decoding(max_new_tokens=24), limits=Limits(frozenset({2}), 256),
            batch_tokens=7, store=store, model_facts=FACTS, on_progress=lambda _: None,
        )  # fmt: skip

    assert again == first


def test_more_and_reordered_requests_pay_only_for_what_is_new(tmp_path: Path) -> None:
    model = CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        known = texts_of(store, requests_of()[:6])
        found = texts_of(
            store,
            [*reversed(requests_of()), requests_of()[0]],
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
    with store_at(tmp_path) as store:
        texts_of(store, requests_of()[:1])
        texts_of(store, requests_of()[:1], decoding=Decoding(**{"max_new_tokens": 24, **change}))

        assert store.count() == 2


def test_a_text_is_stored_with_what_wrote_it(tmp_path: Path) -> None:
    with store_at(tmp_path) as store:
        texts_of(store, requests_of()[:1], batch_tokens=99)
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

    with store_at(tmp_path) as store:
        with pytest.raises(Interrupted, match="asked to stop"):
            texts_of(store, requests_of(), batch_tokens=1, on_progress=stop_after_two)
        kept = store.count()
        model = CountingModel(tiny_lm())
        found = texts_of(store, requests_of(), model=model)
    with store_at(tmp_path, "undisturbed") as store:
        undisturbed = texts_of(store, requests_of())

    assert kept == 2
    assert model.num_rows[0] == len(QUESTIONS) - 2
    assert found == undisturbed


def test_a_text_ends_at_an_end_token_which_is_not_part_of_it(tmp_path: Path) -> None:
    request = requests_of()[0]
    with store_at(tmp_path) as store:
        (whole,) = texts_of(store, [request], limits=Limits(frozenset(), 256))
        ids = tiny_tokenizer()(whole.text)["input_ids"]
        end = ids[3]
        (cut,) = texts_of(store, [request], limits=Limits(frozenset({end}), 256))

    length = ids.index(end)
    assert (whole.finish, whole.completion_tokens) == ("length", 24)
    assert (cut.finish, cut.completion_tokens) == ("stop", length)
    assert cut.text == tiny_tokenizer().decode(ids[:length])


def test_a_text_ends_before_a_stop_text(tmp_path: Path) -> None:
    requests = requests_of()
    with store_at(tmp_path) as store:
        whole = texts_of(store, requests, limits=Limits(frozenset(), 256))
        stop = whole[1].text.split()[4]
        cut = texts_of(
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
    model = CountingModel(tiny_lm())
    with store_at(tmp_path) as store:
        whole = texts_of(store, requests_of(), limits=Limits(frozenset(), 256))
        ends = frozenset(tiny_tokenizer()(whole[0].text.split()[2])["input_ids"])
        cut = texts_of(store, requests_of(), model=model, limits=Limits(ends, 256))

    written = [min(text.completion_tokens + (text.finish == "stop"), 24) for text in cut]
    assert sum(model.num_rows) == sum(written) < 24 * len(QUESTIONS)


def test_a_prompt_longer_than_the_context_is_refused_by_question(tmp_path: Path) -> None:
    long = Request(prompt_ids=(5,) * 40, asked_by="q_long")

    with (
        store_at(tmp_path) as store,
        pytest.raises(
            StageError,
            match="question q_long: its prompt has 40 tokens, but the model's context holds 40",
        ),
    ):
        texts_of(store, [*requests_of(), long], limits=Limits(frozenset({2}), 40))


def test_a_text_may_grow_to_the_end_of_the_context_and_no_further(tmp_path: Path) -> None:
    request = requests_of()[0]
    room = 5
    with store_at(tmp_path) as store:
        (text,) = texts_of(
            store, [request], limits=Limits(frozenset(), len(request.prompt_ids) + room)
        )

    assert (text.completion_tokens, text.finish) == (room, "length")


def test_an_empty_prompt_is_refused_by_question(tmp_path: Path) -> None:
    with (
        store_at(tmp_path) as store,
        pytest.raises(StageError, match="question q1: its prompt has no token"),
    ):
        texts_of(store, [Request(prompt_ids=(), asked_by="q1")])
