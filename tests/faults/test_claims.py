"""A process is killed while it holds claims and waits for answers: others take over at once, and what it sent is unknown."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kpod.runner import Ledger
from kpod.runner.texts import GeneratedText, TextStore
from tests.chain import Chain
from tests.runner.test_ledger import priced

TEXT = GeneratedText(text="x", finish="stop", prompt_tokens=1, completion_tokens=1)
HOLDER = """
import sys, time
from pathlib import Path
from kpod.runner import Ledger
from kpod.runner.texts import GeneratedText, TextStore
if sys.argv[2] != "0":
    now = time.time
    time.time = lambda: now() + float(sys.argv[2])
store = TextStore(Path(sys.argv[1]))
ledger = Ledger(store, run="killed", unit="u")
store.claim([f"k{n}" for n in range(10)])
for n in range(3):
    number = ledger.sent([f"k{n}"], endpoint="e", model="m", attempt=1)
    if n == 0:
        text = GeneratedText(text="x", finish="stop", prompt_tokens=1, completion_tokens=1)
        ledger.answered(number, {"k0": text}, provenance={}, prompt_tokens=1, completion_tokens=1, usd=0.5, seconds=1.0)
print("holding", flush=True)
sys.stdin.read()
"""
RACER = """
import sys
from pathlib import Path
from kpod.runner.texts import GeneratedText, TextStore
store = TextStore(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
text = GeneratedText(text=sys.argv[2], finish="stop", prompt_tokens=1, completion_tokens=1)
for start in range(0, 400, 4):
    mine = store.claim([f"k{n}" for n in range(start, start + 4)])
    for key in sorted(mine):
        print(key, flush=True)
        store.put({key: text}, provenance={})
"""


@contextmanager
def holder(path: Path, *, ahead_s: float = 0) -> Iterator[subprocess.Popen[str]]:
    """A process that claims ten keys, sends three requests and has one answered, and then waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), str(ahead_s)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    assert process.wait() == -signal.SIGKILL


def test_claims_of_a_killed_process_fall_to_the_next_claimer_at_once(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    keys = {f"k{number}" for number in range(10)}
    store = TextStore(path)
    with holder(path) as process:
        assert store.claim(keys) == set()
        kill(process)

        assert store.claim(keys) == keys - {"k0"}
        assert len(list((tmp_path / "owners").iterdir())) == 1, "the dead one's file is gone"
        assert TextStore(path).claim(keys) == set()


def test_requests_in_flight_at_a_kill_are_unknown_and_answered_ones_are_not(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    ledger = Ledger(TextStore(path))
    with holder(path) as process:
        before = ledger.totals(run="killed")
        kill(process)
        after = ledger.totals(run="killed")

    assert (before.answered, before.in_flight, before.unknown) == (1, 2, 0)
    assert (after.answered, after.in_flight, after.unknown, after.usd) == (1, 0, 2, 0.5)


def test_a_process_with_a_wrong_clock_keeps_its_claims_while_it_lives(tmp_path: Path) -> None:
    for name, ahead_s in (("back", -(10.0**8)), ("ahead", 10.0**8)):
        path = tmp_path / name / "t.sqlite"
        with holder(path, ahead_s=ahead_s) as process:
            store = TextStore(path)
            assert store.claim(["k5", "new"]) == {"new"}
            assert Ledger(store).totals().in_flight == 2
            kill(process)
            assert store.claim(["k5"]) == {"k5"}


def test_processes_that_race_for_the_same_keys_write_each_once(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    TextStore(path).put({"other": TEXT}, provenance={})
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, str(path), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for name in "xyz"
    ]  # fmt: skip
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    written = [racer.communicate()[0].split() for racer in racers]

    assert sorted(key for keys in written for key in keys) == sorted(f"k{n}" for n in range(400))
    assert TextStore(path).count() == 401


def test_a_run_killed_after_sending_pays_again_for_that_request_alone(chain: Chain) -> None:
    chain.write(priced(6, die_at=3))
    assert chain.kpod("run", "recipe.yaml").returncode == -signal.SIGKILL

    chain.run(priced(6))

    asked = [line for line in chain.lines() if line.startswith("ask:")]
    assert asked == [f"ask:{number}" for number in (0, 1, 2, 3, 3, 4, 5)]
    totals = Ledger(TextStore(chain.store / "texts.sqlite")).totals()
    assert (totals.answered, totals.unknown, totals.in_flight) == (6, 1, 0)
