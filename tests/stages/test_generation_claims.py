"""Two that want the same texts: each is written once, waited for, and taken over from one that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kpod.runner import Interrupted
from kpod.runner.texts import TextStore
from kpod.stages._lm import generation
from kpod.stages._lm.generation import Progress
from tests.stages.tiny_texts import CountingModel, requests_of, store_at, texts_of, tiny_lm

# Writes with a store in the folder it is given, prints a line after the first step, and waits there until it is killed.
_HOLDER = """
import sys, time
from pathlib import Path
from tests.stages.tiny_texts import requests_of, store_at, texts_of
def hold(progress):
    if progress.new_tokens:
        print("holds", flush=True)
        time.sleep(60)
with store_at(Path(sys.argv[1])) as store:
    texts_of(store, requests_of(), on_progress=hold)
"""


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "_LOOK_EVERY_S", 0.01)


def test_two_at_once_write_each_text_once(tmp_path: Path) -> None:
    models = [CountingModel(tiny_lm()), CountingModel(tiny_lm())]
    found: dict[int, list[str]] = {}
    # Both stand at the same line before either claims.
    together = threading.Barrier(2)

    def write(number: int) -> None:
        store = TextStore(tmp_path / "texts.sqlite")
        is_first = True

        def wait(_: Progress) -> None:
            nonlocal is_first
            if is_first:
                is_first = False
                together.wait(timeout=30)

        texts = texts_of(
            store, requests_of(), model=models[number], batch_tokens=200, on_progress=wait
        )
        found[number] = [text.text for text in texts]
        store.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    with store_at(tmp_path, "alone") as store:
        alone = texts_of(store, requests_of())

    assert found[0] == found[1] == [text.text for text in alone]
    # Every token was written by one of them; the end token of a text that ends is written too.
    num_written = sum(text.completion_tokens + (text.finish == "stop") for text in alone)
    assert sum(sum(model.num_rows) for model in models) == num_written


@pytest.mark.slow
def test_what_a_killed_process_had_claimed_is_written_by_the_next(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE, text=True, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "holds\n"
    waits: list[Progress] = []

    def kill_when_waiting(progress: Progress) -> None:
        waits.append(progress)
        if len(waits) == 3:
            holder.send_signal(signal.SIGKILL)
            holder.wait()

    with store_at(tmp_path) as store:
        found = texts_of(store, requests_of(), on_progress=kill_when_waiting)
    with store_at(tmp_path, "alone") as store:
        alone = texts_of(store, requests_of())
    holder.stdout.close()

    assert [one.new_tokens for one in waits[:3]] == [0, 0, 0], "nothing is written while it lives"
    assert found == alone


def test_an_interrupted_writer_gives_its_claims_back(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.new_tokens:
            raise Interrupted("asked to stop")

    with store_at(tmp_path) as first, store_at(tmp_path) as second:
        with pytest.raises(Interrupted, match="asked to stop"):
            texts_of(first, requests_of(), on_progress=stop)
        model = CountingModel(tiny_lm())
        texts_of(second, requests_of(), model=model)

    assert model.num_rows[0] == len(requests_of())


def test_a_waiting_writer_can_be_interrupted(tmp_path: Path) -> None:
    num_waits = 0

    def stop(_: Progress) -> None:
        nonlocal num_waits
        num_waits += 1
        if num_waits == 4:
            raise Interrupted("asked to stop")

    def hold(progress: Progress) -> None:
        if progress.new_tokens:
            with store_at(tmp_path) as second, pytest.raises(Interrupted, match="asked to stop"):
                texts_of(second, requests_of(), on_progress=stop)
            raise Interrupted("held long enough")

    with store_at(tmp_path) as first, pytest.raises(Interrupted, match="held long enough"):
        texts_of(first, requests_of(), on_progress=hold)

    assert num_waits == 4


def test_texts_of_another_are_told_as_found(tmp_path: Path) -> None:
    found: list[int] = []
    with store_at(tmp_path) as store:
        texts_of(store, requests_of()[:4])
        texts_of(store, requests_of(), on_found=lambda texts: found.append(len(texts)))

    assert sum(found) == 4


def test_refused_texts_are_written_again_only_when_asked_to(tmp_path: Path) -> None:
    from kpod.stages._lm.loading import Limits

    requests = requests_of()[:2]
    with store_at(tmp_path) as store:
        whole = texts_of(store, requests, limits=Limits(frozenset(), 256))
        # A text whose first token ends it says nothing: refused.
        first = tuple({text.text.split()[0] for text in whole})
    ids = [requests_of([word])[0].prompt_ids[0] for word in first]
    limits = Limits(frozenset(ids), 256)
    with store_at(tmp_path) as store:
        silent = texts_of(store, requests, limits=limits)
        model = CountingModel(tiny_lm())
        texts_of(store, requests, model=model, limits=limits)
        num_calls = len(model.num_rows)
        texts_of(store, requests, model=model, limits=limits, but_refused=True)

    assert all(text.is_refused for text in silent)
    assert (num_calls, len(model.num_rows)) == (0, 1)
