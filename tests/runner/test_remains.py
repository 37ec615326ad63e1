"""What removed results leave behind goes too, and no lock is ever held by two processes because of that."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from kpod.runner.garbage import GRACE_S, find_garbage
from kpod.runner.manifest import Manifest, stored_output
from kpod.runner.remains import last_holder
from kpod.runner.removal import remove_garbage
from kpod.runner.store import Store

LATER_S = time.time() + 1000 * GRACE_S
KEY, OTHER = "a" * 64, "b" * 64

# Opens the lock file, says so, and goes on to ask for the lock when it is told to.
_SLOW_TAKER = """
import fcntl, sys
from filelock import FileLock, Timeout
real, calls = fcntl.flock, []
def flock(*given):
    if not calls:
        print("opened", flush=True)
        sys.stdin.readline()
    calls.append(given)
    return real(*given)
fcntl.flock = flock
try:
    with FileLock(sys.argv[1], timeout=float(sys.argv[2])):
        print("got it", flush=True)
        sys.stdin.readline()
except Timeout:
    print("somebody else has it", flush=True)
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _publish(store: Store, key: str, text: str) -> str:
    """An entry with the lock file that a run leaves; the digest of its output."""
    store.lock_path(key).parent.mkdir(parents=True, exist_ok=True)
    store.lock_path(key).touch()
    with store.drafting(key) as draft:
        (draft / "rows.jsonl").write_text(text, encoding="utf-8")
        output = stored_output(draft, "rows", is_folder=False, num_records=1, pointer=None)
        store.publish(draft, Manifest(key=key, preimage={}, outputs={"rows": output}))
    return output.digest


def _collect(store: Store) -> None:
    remove_garbage(store, find_garbage(store, store.root / "runs", now_s=LATER_S))


def _files(store: Store, place: str) -> list[str]:
    return sorted(path.name for path in (store.root / place).rglob("*") if path.is_file())


def _taker(path: Path, *, within_s: float = 60.0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _SLOW_TAKER, str(path), str(within_s)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip


def _line(process: subprocess.Popen[str], tell: str = "") -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    if tell:
        process.stdin.write(tell)
        process.stdin.flush()
    return process.stdout.readline().strip()


def test_nothing_of_a_removed_entry_is_left(store: Store) -> None:
    _publish(store, KEY, "rows")
    manifest = store.entry_folder(KEY) / "manifest.json"
    store.memo.put("file", f"{manifest}|1|2|3|4|5", "digest")
    store.memo.put("file", f"{store.entry_folder(OTHER)}/manifest.json|1|2|3|4|5", "digest")

    _collect(store)

    assert [_files(store, place) for place in ("entries", "locks", "outputs", "tmp")] == [[], [], [], []]  # fmt: skip
    assert store.memo.get("file", f"{manifest}|1|2|3|4|5") is None
    assert store.memo.get("file", f"{store.entry_folder(OTHER)}/manifest.json|1|2|3|4|5") == "digest"  # fmt: skip


def test_what_an_earlier_kpod_left_behind_goes_too(store: Store) -> None:
    digest = _publish(store, KEY, "rows")
    store.touch(KEY)
    (store.root / "locks" / f"{OTHER}.lock").touch()
    old = store.root / "outputs" / "ff" / ("f" * 64)
    old.parent.mkdir()
    old.write_text(OTHER, encoding="utf-8")
    os.utime(old, (1.0, 1.0))

    remove_garbage(store, find_garbage(store, store.root / "runs"))

    assert _files(store, "locks") == [f"{KEY}.lock"]
    assert _files(store, "outputs") == [digest]


def test_the_index_of_a_content_names_the_entry_that_stays(store: Store) -> None:
    digest = _publish(store, KEY, "same rows")
    _publish(store, OTHER, "same rows")
    os.utime(store.entry_folder(OTHER) / "manifest.json", (1.0, 1.0))
    index = store.root / "outputs" / digest[:2] / digest
    assert index.read_text(encoding="utf-8") == OTHER

    remove_garbage(store, find_garbage(store, store.root / "runs"))

    assert list(store.keys()) == [KEY]
    assert index.read_text(encoding="utf-8") == KEY


def test_what_is_published_while_garbage_is_removed_keeps_its_index(store: Store) -> None:
    _publish(store, KEY, "rows")
    found = find_garbage(store, store.root / "runs", now_s=LATER_S)
    digest = _publish(store, OTHER, "other rows")
    index = store.root / "outputs" / digest[:2] / digest
    os.utime(index, (found.looked_s, found.looked_s))

    remove_garbage(store, found)

    assert list(store.keys()) == [OTHER]
    assert _files(store, "outputs") == [digest]


def test_an_entry_whose_key_another_process_makes_stays_with_its_lock(store: Store) -> None:
    _publish(store, KEY, "rows")
    taker = _taker(store.lock_path(KEY))
    assert _line(taker) == "opened"
    assert _line(taker, "go on\n") == "got it"

    _collect(store)

    assert list(store.keys()) == [KEY]
    assert _files(store, "locks") == [f"{KEY}.lock"]
    taker.communicate("let go\n", timeout=60)


def test_who_was_about_to_take_a_lock_that_is_removed_waits_for_who_took_the_new_one(
    store: Store,
) -> None:
    _publish(store, KEY, "rows")
    path = store.lock_path(KEY)
    late = _taker(path, within_s=2.0)
    assert _line(late) == "opened"

    _collect(store)
    assert not path.exists()
    with FileLock(path):
        assert _line(late, "go on\n") == "somebody else has it"

    assert late.wait(timeout=60) == 0


def test_who_was_about_to_take_a_lock_that_is_removed_gets_it_where_nobody_has_it(
    store: Store,
) -> None:
    _publish(store, KEY, "rows")
    late = _taker(store.lock_path(KEY))
    assert _line(late) == "opened"

    _collect(store)

    assert _line(late, "go on\n") == "got it"
    assert _files(store, "locks") == [f"{KEY}.lock"]
    with last_holder(str(store.lock_path(KEY))) as is_ours:
        assert not is_ours
    late.communicate("let go\n", timeout=60)


def test_a_lock_file_that_may_not_be_opened_is_taken_for_held(tmp_path: Path) -> None:
    (tmp_path / "a folder.lock").mkdir()

    with last_holder(str(tmp_path / "a folder.lock")) as is_ours:
        assert not is_ours
