"""What nothing needs is found and removed, and nothing else: runs, pins, references, use and runs at work are roots."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from filelock import FileLock

from kpod.runner.cli import main
from kpod.runner.errors import KpodError
from kpod.runner.garbage import GRACE_S, find_garbage
from kpod.runner.live import at_work, oldest_start_s
from kpod.runner.manifest import Manifest, stored_output
from kpod.runner.pins import pin, pins, unpin
from kpod.runner.removal import remove_garbage
from kpod.runner.store import Store
from tests.chain import Chain, seven

LATER_S = time.time() + 1000 * GRACE_S


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def _publish(store: Store, key: str, *, refers: tuple[str, ...] = (), run: str = "") -> str:
    """An entry; the digest of its one output."""
    with store.drafting(key) as draft:
        (draft / "rows.jsonl").write_text(key, encoding="utf-8")
        output = stored_output(draft, "rows", is_folder=False, num_records=1, pointer=None)
        made_by = run or "20260101T000000Z-my-recipe-abcdef"
        store.publish(
            draft,
            Manifest(
                key=key, preimage={}, outputs={"rows": output}, refers=refers, made_by=made_by
            ),
        )
    return output.digest


def _doomed(store: Store, runs: Path) -> set[str]:
    return {held.key for held in find_garbage(store, runs, now_s=LATER_S).entries}


def test_what_no_run_has_is_garbage_once_the_grace_is_over(store: Store, tmp_path: Path) -> None:
    _publish(store, "a" * 64)

    assert find_garbage(store, tmp_path).entries == ()
    found = find_garbage(store, tmp_path, now_s=LATER_S)

    assert found.by_recipe() == {"my-recipe": (1, 64)}
    assert remove_garbage(store, found) >= 64
    assert list(store.keys()) == []


def test_a_hit_begins_the_grace_anew(store: Store, tmp_path: Path) -> None:
    _publish(store, "a" * 64)
    manifest = store.entry_folder("a" * 64) / "manifest.json"
    os.utime(manifest, (1.0, 1.0))
    assert len(find_garbage(store, tmp_path).entries) == 1

    store.touch("a" * 64)

    assert find_garbage(store, tmp_path).entries == ()


def test_what_is_used_between_finding_and_removing_stays(store: Store, tmp_path: Path) -> None:
    _publish(store, "a" * 64)
    found = find_garbage(store, tmp_path, now_s=LATER_S)

    os.utime(store.entry_folder("a" * 64) / "manifest.json", (LATER_S, LATER_S))
    remove_garbage(store, found)

    assert list(store.keys()) == ["a" * 64]


def test_what_a_pinned_entry_refers_to_stays_through_a_chain(store: Store, tmp_path: Path) -> None:
    base = _publish(store, "a" * 64)
    adapter = _publish(store, "b" * 64, refers=(base,))
    _publish(store, "c" * 64, refers=(adapter,))
    _publish(store, "d" * 64)

    assert pin(store, "c" * 8, tmp_path) == ["c" * 64]
    assert _doomed(store, tmp_path) == {"d" * 64}

    assert unpin(store, "c" * 8, tmp_path) == ["c" * 64]
    assert _doomed(store, tmp_path) == {letter * 64 for letter in "abcd"}


def test_while_a_run_is_at_work_what_was_used_since_it_began_stays(
    store: Store, tmp_path: Path
) -> None:
    with at_work(store.root):
        _publish(store, "a" * 64)
        assert _doomed(store, tmp_path) == set()

    assert oldest_start_s(store.root) is None
    assert _doomed(store, tmp_path) == {"a" * 64}


def test_the_mark_of_a_killed_run_holds_nothing_back(store: Store, tmp_path: Path) -> None:
    _publish(store, "a" * 64)
    (store.root / "live").mkdir()
    (store.root / "live" / "killed.lock").touch()

    assert _doomed(store, tmp_path) == {"a" * 64}
    assert list((store.root / "live").iterdir()) == []


def test_runs_keep_what_they_have_and_a_removed_run_does_not(chain: Chain) -> None:
    archive = chain.run(seven()).archive
    store = Store(chain.store)
    assert _doomed(store, chain.runs) == set()

    shutil.rmtree(archive.folder)

    assert len(_doomed(store, chain.runs)) == 7


def test_a_run_or_a_stage_of_it_is_pinned_by_name(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = chain.run(seven()).archive
    words = ["--runs", str(chain.runs)]

    assert main(["cache", "pin", "last:s3", "last", *words]) == 0
    assert main(["cache", "pin", *words]) == 0
    told = capsys.readouterr().out
    assert "1 entry pinned: last:s3" in told
    assert "7 entries pinned: last" in told
    assert len(pins(Store(chain.store))) == 7
    with pytest.raises(KpodError, match="has no stage 'nope'\nallowed: s1, s2"):
        pin(Store(chain.store), "last:nope", chain.runs)

    shutil.rmtree(archive.folder)
    assert _doomed(Store(chain.store), chain.runs) == set()


def test_leftovers_of_killed_runs_go_after_a_while_unless_somebody_is_at_them(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())
    store = Store(chain.store)
    for place, age_s in (
        ("tmp/cafe-1-2", GRACE_S + 60), ("tmp/beef-1-2", 60), ("partial/feed", GRACE_S + 60), ("tmp/f00d-1-2", GRACE_S + 60),
    ):  # fmt: skip
        left = store.root / place
        left.mkdir(parents=True)
        (left / "weights").write_bytes(b"x" * 100)
        for path in (left / "weights", left):
            os.utime(path, (time.time() - age_s,) * 2)

    with FileLock(store.lock_path("f00d" * 16)):
        words = ["--runs", str(chain.runs)]
        assert main(["cache", "gc", *words]) == 0
        assert (
            "0 of 7 entries and 1 unfinished leftovers, 100 bytes would be removed"
            in capsys.readouterr().out
        )
        assert main(["cache", "gc", "--yes", *words]) == 0

    assert not (store.root / "tmp" / "cafe-1-2").exists()
    assert all(
        (store.root / place).exists() for place in ("tmp/beef-1-2", "partial/feed", "tmp/f00d-1-2")
    )


def test_copies_of_inputs_that_no_run_names_go_too(store: Store, tmp_path: Path) -> None:
    copy = store.root / "sources" / "ab" / ("ab" * 32)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"x" * 10)

    found = find_garbage(store, tmp_path, now_s=LATER_S)

    assert [(path.name, size) for path, size in found.leftovers] == [("ab" * 32, 10)]


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "no JSON"), (b"\xff\x00garbage", "no JSON"), (b"[1]", "a list of 1"), (b"{}", "an empty mapping"), (b"7", "7"), (b"null", "null"),
        (b'{"key": "k", "named": 7, "at": "t"}', "a mapping"), (b'{"key": "k", "named": "n", "at": "t", "more": ""}', "a mapping"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("words", [["gc", "--yes"], ["pin"], ["unpin", "last"]])
def test_a_broken_pin_is_told_and_nothing_is_removed(
    chain: Chain, capsys: pytest.CaptureFixture[str], content: bytes, got: str, words: list[str]
) -> None:
    chain.run(seven())
    store = Store(chain.store)
    key = next(store.keys())
    pin(store, key, chain.runs)
    path = store.root / "pins" / f"{key}.json"
    path.write_bytes(content)

    assert main(["cache", *words, "--runs", str(chain.runs)]) == 2

    said = capsys.readouterr().err
    assert said.startswith(f"{path}\n  got {got}")
    assert "  allowed: a mapping of texts: at, key, named\n" in said
    assert f"pin it again (kpod cache pin {key[:12]})" in said
    assert len(list(store.keys())) == 7
    assert main(["cache", "pin", key[:12], "--runs", str(chain.runs)]) == 0
    assert pins(store)[0].key == key


def test_a_pin_that_cannot_be_read_is_told(store: Store) -> None:
    (store.root / "pins" / f"{'a' * 64}.json").mkdir(parents=True)

    with pytest.raises(KpodError, match="cannot be read: is a directory\npin it again"):
        pins(store)
