"""teacher.openai against an endpoint that fails in every way we know: nothing lost, nothing paid twice."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kpod.runner import Ledger
from kpod.runner.texts import TextStore
from tests.faults.asking import result, start
from tests.faults.endpoint import Endpoint
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

# 30 % are told to come later, and 12 % fail otherwise.
FAULTS = {
    "429": 0.12, "429_after": 0.08, "429_ms": 0.1, "500": 0.03, "503": 0.01, "reset": 0.02, "half_body": 0.02,
    "invalid_json": 0.02, "no_choices": 0.01, "stall": 0.002, "empty": 0.01, "length": 0.01, "content_filter": 0.01,
    "wrong_model": 0.01,
}  # fmt: skip
CONCURRENCY = 16
NUM_KILLS = 4


def answered(
    process: subprocess.Popen[str], endpoint: Endpoint, number: int, *, look_every_s: float = 0.02
) -> None:
    """Wait until the endpoint has answered so many requests, while the process that asks lives."""
    wait_until(process, lambda: endpoint.stats()["answered"] >= number, look_every_s=look_every_s)


def test_two_thousand_questions_survive_every_fault_and_four_kills(tmp_path: Path) -> None:
    draw = random.Random()
    settings = {
        "model": "teacher",
        "deadline_s": 1.5,
        "first_wait_s": 0.02,
        "concurrency": CONCURRENCY,
        # With 8, one of 2,000 questions would fail each time in one run of a thousand.
        "max_attempts": 40,
    }
    seed = draw.randrange(2**32)
    print(f"\n  seed of the faults: {seed}")
    with Endpoint(faults=FAULTS, latency_s=0.01, seed=seed) as endpoint:
        for kill in range(NUM_KILLS):
            process = start(tmp_path, numbers=2000, urls=[endpoint.url], **settings)
            until = draw.randrange(300 * kill + 1, 300 * kill + 300)
            answered(process, endpoint, until, look_every_s=draw.uniform(0.0, 0.05))
            process.kill()
            assert process.wait() == -signal.SIGKILL, "it ended by itself"
        found = result(start(tmp_path, numbers=2000, urls=[endpoint.url], **settings))
        stats = endpoint.stats()
    store = TextStore(tmp_path / "texts.sqlite")
    totals = Ledger(store).totals()
    twice = sum(times - 1 for times in stats["texts"].values())

    assert found["rationales"] == 2000
    assert store.count() == totals.texts == totals.answered == 2000
    assert len(stats["texts"]) == 2000, "the server answered every question"
    assert totals.in_flight == 0
    assert totals.unknown <= NUM_KILLS * CONCURRENCY
    assert totals.requests >= stats["requests"], "every request was written down before it was sent"
    # What the server answered and we never read: cut by a kill (unknown), or later than the deadline (failed).
    unread = stats["answered"] - totals.answered
    late = found["notes"]["retries"].get("timeout", 0) + totals.unknown
    assert unread == twice
    assert unread <= late, f"{unread} answers were paid twice"
    print(
        f"\n  {stats['requests']} requests, {stats['answered']} answered, {totals.unknown} unknown, {twice} twice"
    )


def test_two_runs_at_once_ask_every_question_once(tmp_path: Path) -> None:
    settings = {"model": "teacher", "first_wait_s": 0.02, "concurrency": 4}
    with Endpoint(faults={"429_ms": 0.05, "500": 0.05}, latency_s=0.01) as endpoint:
        both = [start(tmp_path, numbers=n, urls=[endpoint.url], **settings) for n in (400, 300)]
        found = [result(process) for process in both]
        stats = endpoint.stats()

    assert [one["rationales"] for one in found] == [400, 300]
    assert stats["answered"] == len(stats["texts"]) == 400


def test_what_a_killed_run_was_asking_is_taken_over_by_the_one_that_waits(tmp_path: Path) -> None:
    with Endpoint(latency_s=0.3) as endpoint:
        first = start(tmp_path, numbers=20, urls=[endpoint.url], model="teacher", concurrency=2)
        answered(first, endpoint, 2)
        second = start(tmp_path, numbers=20, urls=[endpoint.url], model="teacher", concurrency=16)
        answered(second, endpoint, 6)
        first.kill()
        first.wait()
        found = result(second)
        stats = endpoint.stats()

    assert found["rationales"] == 20
    assert stats["answered"] <= 20 + 2


def test_a_server_that_comes_back_is_asked_again(tmp_path: Path) -> None:
    with Endpoint(latency_s=0.02) as endpoint:
        process = start(
            tmp_path, numbers=100, urls=[endpoint.url], model="teacher", concurrency=2, first_wait_s=0.05
        )  # fmt: skip
        answered(process, endpoint, 10)
        endpoint.stop()
        time.sleep(0.3)
        endpoint.start()
        found = result(process)

    assert found["rationales"] == 100
    assert found["notes"]["retries"].keys() <= {"no_connection", "connection_lost"}
