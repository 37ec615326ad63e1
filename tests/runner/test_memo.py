"""File digests that are not worked out twice, and are never trusted too early."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from kpod.runner import KpodError
from kpod.runner.memo import Memo, content_digest, files_below
from tests.chain import Chain, recipe, step


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return Memo(tmp_path / "memo.sqlite")


def old_file(path: Path, text: str, *, age_s: float = 60) -> Path:
    """A file whose times are in the past, as far as a file's times can be set."""
    path.write_text(text, encoding="utf-8")
    then_ns = time.time_ns() - int(age_s * 1e9)
    os.utime(path, ns=(then_ns, then_ns))
    return path


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of this process, three seconds on."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + 3_000_000_000)


@pytest.mark.usefixtures("later")
def test_a_settled_file_is_read_once(memo: Memo, tmp_path: Path) -> None:
    path = old_file(tmp_path / "a.txt", "hello")

    digests = {memo.file_digest(path) for _ in range(3)}

    assert {hashlib.sha256(b"hello").hexdigest()} == digests
    assert memo.bytes_read == 5


def test_a_file_younger_than_two_seconds_is_read_each_time(
    memo: Memo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path / "a.txt", "hello")
    changed_ns = path.stat().st_ctime_ns
    monkeypatch.setattr(time, "time_ns", lambda: changed_ns + 1_900_000_000)

    memo.file_digest(path)
    memo.file_digest(path)

    assert memo.bytes_read == 10


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("is_time_kept", [False, True])
def test_a_file_with_other_bytes_of_the_same_size_is_read_again(
    memo: Memo, tmp_path: Path, *, is_time_kept: bool
) -> None:
    path = old_file(tmp_path / "a.txt", "hello")
    before = memo.file_digest(path)
    facts = path.stat()
    path.write_text("jello", encoding="utf-8")
    while is_time_kept:
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        # The clock of many file systems ticks every 4 or 10 ms.
        if path.stat().st_ctime_ns != facts.st_ctime_ns:
            break

    assert before != memo.file_digest(path)


@pytest.mark.usefixtures("later")
def test_a_file_put_in_place_of_another_is_read(memo: Memo, tmp_path: Path) -> None:
    path = old_file(tmp_path / "a.txt", "hello")
    before = memo.file_digest(path)
    old_file(tmp_path / "b.txt", "jello").replace(path)

    assert before != memo.file_digest(path)


@pytest.mark.usefixtures("later")
def test_a_warm_run_reads_no_byte_of_its_input(chain: Chain) -> None:
    (chain.folder / "numbers.txt").write_text("1 " * 5000, encoding="utf-8")
    plain = recipe(a={"uses": "chain.numbers", "with": {"path": "numbers.txt"}})
    cold = chain.session(plain)
    cold.run()

    warm = chain.session()
    warm.run()

    assert (cold.store.memo.bytes_read, warm.store.memo.bytes_read) == (10_000, 0)


def test_facts_are_remembered_by_topic_in_the_file(memo: Memo, tmp_path: Path) -> None:
    memo.put("hub", "a", "1")
    memo.put("hub", "a", "2")
    memo.close()
    again = Memo(tmp_path / "memo.sqlite")

    assert (again.get("hub", "a"), again.get("hub", "b"), again.get("x", "a")) == ("2", None, None)


def test_where_no_file_can_be_written_it_is_remembered_for_this_process(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memo = Memo(tmp_path / "file" / "memo.sqlite")

    memo.put("hub", "a", "1")

    assert memo.get("hub", "a") == "1"


def test_a_folder_is_its_names_and_bytes_without_hidden_files(memo: Memo, tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "sub" / "a.txt").write_text("a", encoding="utf-8")
    before = memo.content_digest(top)
    (top / ".DS_Store").touch()

    assert before == memo.content_digest(top) == content_digest(top)
    assert list(memo.tree_digests(top)) == ["sub/a.txt"]
    (top / "sub" / "a.txt").rename(top / "sub" / "b.txt")
    assert before != memo.content_digest(top)


def test_a_pipe_in_a_folder_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(KpodError, match="pipe is neither a file nor a folder"):
        list(files_below(tmp_path))


def test_a_memo_serves_two_runs_of_one_folder(chain: Chain) -> None:
    plain = recipe(a={"uses": "chain.numbers"}, b=step("a", "b"))
    first, second = chain.session(plain), chain.session(plain)

    first.run()

    assert [found.status for found in second.planner.plan()] == ["hit", "hit"]
