"""Ctrl-C: once, the run stops at the next safe point and can go on; other signals likewise."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Interrupted
from kpod.runner.interrupt import StopRequest
from kpod.runner.session import Session
from tests.chain import Chain, finish, output_bytes, seven


def stop_at(session: Session, event: str, unit: str, number: int) -> list[dict[str, Any]]:
    """Run, and send this process a signal at an event of a unit."""
    rows: list[dict[str, Any]] = []

    def listen(row: dict[str, Any]) -> None:
        rows.append(row)
        if (row["event"], row.get("id")) == (event, unit):
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as raised:
        session.run([listen])
    return [*rows, {"event": "raised", "text": str(raised.value)}]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_a_stage_at_its_next_progress_and_it_goes_on_there(
    chain: Chain, tmp_path: Path, number: int
) -> None:
    rows = stop_at(chain.session(seven()), "progress", "s4", number)
    assert [row["event"] for row in rows[-2:]] == ["run_interrupted", "raised"]
    assert rows[-1]["text"] == "s4 was stopped at 1 of 5 numbers"

    again = chain.run()

    assert again.executed == ["s4", "s5", "s6", "count"]
    assert chain.lines().count("s4:0") == 1
    undisturbed = chain.run(runs=tmp_path / "other")
    assert output_bytes(undisturbed.archive) == output_bytes(again.archive)


def test_a_signal_between_stages_stops_before_the_next(chain: Chain) -> None:
    rows = stop_at(chain.session(seven()), "stage_finished", "s3", signal.SIGINT)

    assert rows[-1]["text"] == "stopped before s4"


def test_a_run_that_was_stopped_leaves_an_archive_that_is_not_complete(chain: Chain) -> None:
    stop_at(chain.session(seven()), "stage_finished", "s3", signal.SIGINT)

    (folder,) = [path for path in chain.runs.iterdir() if not path.name.startswith(".")]
    assert not (folder / "run.json").exists()
    last = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    assert json.loads(last)["event"] == "run_interrupted"


def test_handlers_are_put_back(chain: Chain) -> None:
    before = signal.getsignal(signal.SIGINT)

    chain.run(seven())

    assert before == signal.getsignal(signal.SIGINT)


def test_ctrl_c_returns_five_says_so_and_the_same_command_continues(chain: Chain) -> None:
    chain.write(seven(s4={"pause_s": 1.0}))
    process = chain.start("run", "recipe.yaml", "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line).get("event") == "progress" and json.loads(line)["id"] == "s4":
            process.send_signal(signal.SIGINT)
            break
    stopped = finish(process)

    assert stopped.returncode == 5
    assert "s4 was stopped at" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    done = chain.kpod("run", "recipe.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert chain.executions() == ["numbers", "s2", "s3", "s4", "s4", "s5", "s6", "count"]
    assert len([line for line in chain.lines() if line.startswith("s4:")]) == 5


def test_a_second_ctrl_c_stops_at_once() -> None:
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_set
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_outside_the_main_thread_signals_stay_with_whoever_has_them() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[Any] = []

    def work() -> None:
        with StopRequest().listening():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert [before] == seen
