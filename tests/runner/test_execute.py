"""Units taken to their results: from the store, shared with another run, forced, or made."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from filelock import FileLock

from kpod.runner import Interrupted, StageError
from kpod.runner.errors import StageCrashed
from tests.chain import Chain, recipe, seven, step


def test_a_forced_stage_runs_and_equal_bytes_stop_there(chain: Chain) -> None:
    first = chain.run(seven())

    again = chain.run(force=["s3"])

    assert again.executed == ["s3"]
    assert again.reasons["s3"] == "forced"
    made_by = {again.archive.units[name].manifest.made_by for name in ("s2", "s3")}
    assert {first.archive.name, again.archive.name} == made_by


def test_from_runs_a_stage_and_all_behind_it(chain: Chain) -> None:
    chain.run(seven())

    assert chain.run(from_stage="s5").executed == ["s5", "s6", "count"]


def test_until_runs_only_what_a_stage_needs(chain: Chain) -> None:
    assert chain.run(seven(), until="s3").executed == ["numbers", "s2", "s3"]
    assert chain.run().executed == ["s4", "s5", "s6", "count"]


def test_a_result_that_another_run_makes_meanwhile_is_shared(chain: Chain) -> None:
    session = chain.session(seven())
    rows: list[dict[str, Any]] = []

    def listen(row: dict[str, Any]) -> None:
        rows.append(row)
        if (row["event"], row.get("id")) == ("stage_started", "s3"):
            chain.run()

    session.run([listen])

    assert len(chain.executions()) == 7
    status = {row["id"]: row["status"] for row in rows if row["event"] == "stage_finished"}
    assert {word: list(status.values()).count(word) for word in ("run", "shared", "hit")} == {
        "run": 2,
        "shared": 1,
        "hit": 4,
    }


def test_a_run_that_waits_for_another_says_so_and_stops_when_asked(chain: Chain) -> None:
    session = chain.session(seven())
    (first, *_) = session.planner.plan()
    assert first.key is not None
    lock = session.store.lock_path(first.key)
    lock.parent.mkdir(parents=True)
    rows: list[dict[str, Any]] = []

    def listen(row: dict[str, Any]) -> None:
        rows.append(row)
        if row["event"] == "stage_waiting":
            os.kill(os.getpid(), signal.SIGINT)

    with (
        FileLock(lock),
        pytest.raises(Interrupted, match="stopped while s1 waited for another run"),
    ):
        session.run([listen])
    assert "stage_waiting" in [row["event"] for row in rows]


def test_a_failed_stage_keeps_what_came_before_it(chain: Chain) -> None:
    with pytest.raises(StageError, match=r"stage s4 \(chain.step\)\n  no way"):
        chain.run(seven(s4={"fail": "no way"}))

    assert chain.run(seven()).executed == ["s4", "s5", "s6", "count"]


def test_a_crash_names_the_stage_and_keeps_its_cause(chain: Chain) -> None:
    with pytest.raises(StageCrashed, match=r"stage a \(chain.crash\) failed: ZeroDivisionError") as raised:  # fmt: skip
        chain.run(recipe(a={"uses": "chain.crash"}))

    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_equal_stages_are_executed_once(chain: Chain) -> None:
    ran = chain.run(
        recipe(a={"uses": "chain.numbers"}, b=step("a", "first"), c=step("a", "second"))
    )

    assert ran.executed == ["numbers", "first"]
    assert [unit.status for unit in ran.archive.units.values()] == ["run", "run", "hit"]


def test_events_tell_the_run_from_start_to_end(chain: Chain) -> None:
    archive = chain.run(seven()).archive

    rows = [row for row in archive.events() if row["event"] != "progress"]
    assert ["run_started", *["stage_started", "stage_finished"] * 7, "run_finished"] == [
        row["event"] for row in rows
    ]
    assert {name: rows[-1][name] for name in ("hits", "units")} == {"hits": 0, "units": 7}
    finished = rows[2]
    assert {"at", "event", "id", "key", "outputs", "reason", "seconds", "status", "summary", "uses"} == set(finished)  # fmt: skip
