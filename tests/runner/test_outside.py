"""What stages read from outside: content found, absence told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpod.runner import HubRepository, LocalFile, PackageFile
from kpod.runner.memo import Memo, hash_file
from kpod.runner.outside import HubSilent, Outside, SourceMissing
from tests.chain import Chain, recipe

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Outside:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return Outside(memo=Memo(tmp_path / "memo.sqlite"))


def test_a_file_and_a_folder_are_named_by_their_content(outside: Outside, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("a", encoding="utf-8")
    one, two = (outside.find(LocalFile(str(tmp_path / name))) for name in ("one", "two"))
    file = outside.find(LocalFile(str(tmp_path / "one" / "a.txt")))

    assert one.fact == two.fact
    assert {"sha256": hash_file(tmp_path / "one" / "a.txt")} == file.fact
    assert tmp_path / "one" / "a.txt" == file.path


def test_a_missing_file_says_how_to_get_it(outside: Outside) -> None:
    with pytest.raises(SourceMissing, match=r"there is no file or folder /none\.txt\nask Ada"):
        outside.find(LocalFile("/none.txt", how_to_get="ask Ada"))


def test_a_pipe_is_refused(outside: Outside, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(SourceMissing, match="pipe is neither a file nor a folder"):
        outside.find(LocalFile(str(tmp_path / "pipe")))


def test_a_folder_with_a_broken_link_is_told(outside: Outside, tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "link").symlink_to("nowhere")

    with pytest.raises(SourceMissing, match=r"top/link cannot be read: no such file or directory"):
        outside.find(LocalFile(str(tmp_path / "top")))


def test_a_file_of_a_package_is_found_without_importing_it(outside: Outside) -> None:
    found = outside.find(PackageFile("kpod_chain", "broken.py"))

    assert found.path is not None
    assert found.original == "kpod_chain/broken.py"


@pytest.mark.parametrize("package", ["not_there", "not.there", "", ".there", "os"])
def test_a_package_that_is_not_there_is_told(outside: Outside, package: str) -> None:
    with pytest.raises(SourceMissing, match=r"is not installed\npip install it"):
        outside.find(PackageFile(package, "x", how_to_get="pip install it"))


def test_an_archived_copy_stands_in_for_the_original(outside: Outside, tmp_path: Path) -> None:
    copy = tmp_path / "copy.txt"
    copy.write_text("x", encoding="utf-8")
    outside.substitutes = {"/gone.txt": copy}

    found = outside.find(LocalFile("/gone.txt"))

    assert (copy, "/gone.txt") == (found.path, found.original)


def test_a_commit_needs_no_hub(outside: Outside) -> None:
    found = outside.find(HubRepository("a/b", "model", COMMIT))

    assert found.fact == {"hub": "a/b", "commit": COMMIT}


def test_offline_the_hubs_own_cache_says_the_commit_and_it_is_remembered(
    outside: Outside, tmp_path: Path
) -> None:
    reference = tmp_path / "hub" / "models--a--b" / "refs" / "main"
    reference.parent.mkdir(parents=True)
    reference.write_text(COMMIT, encoding="utf-8")
    assert outside.find(HubRepository("a/b", "model")).fact["commit"] == COMMIT
    reference.unlink()

    assert outside.find(HubRepository("a/b", "model")).fact["commit"] == COMMIT
    outside.refresh = True
    with pytest.raises(HubSilent, match=r"is not known on this machine"):
        outside.find(HubRepository("a/b", "model"))


def test_offline_an_unknown_commit_is_told_with_what_to_do(outside: Outside) -> None:
    with pytest.raises(HubSilent, match=r"\(offline\)\ngive a local folder instead, or run once"):
        outside.find(HubRepository("a/b", "dataset", "v1"))


def test_a_plan_says_which_stage_the_hub_keeps_waiting(chain: Chain) -> None:
    session = chain.session(
        recipe(a={"uses": "chain.numbers"}, b={"uses": "chain.model", "with": {"hub": "no/body"}})
    )

    a, b = session.planner.plan()

    assert (a.status, b.status) == ("run", "run?")
    assert b.reason.startswith("the commit of no/body (model) is not known on this machine")


def test_a_run_that_the_hub_keeps_waiting_does_not_start(chain: Chain) -> None:
    plain = recipe(
        a={"uses": "chain.numbers"}, b={"uses": "chain.model", "with": {"hub": "no/body"}}
    )

    with pytest.raises(HubSilent, match=r"stages\.b\n  the commit of no/body"):
        chain.run(plain)
    assert chain.executions() == []


def test_a_download_that_fails_is_told(outside: Outside) -> None:
    source = HubRepository("a/b", "model", COMMIT)

    with pytest.raises(SourceMissing, match="a/b could not be downloaded from the hub"):
        outside.fetch(source, outside.find(source))


def test_a_model_that_moved_is_pointed_at_where_it_is_now(chain: Chain) -> None:
    (chain.folder / "here").mkdir()
    (chain.folder / "here" / "weights.txt").write_text("w", encoding="utf-8")
    plain = recipe(a={"uses": "chain.model", "with": {"weights": "here"}})
    chain.run(plain)
    (chain.folder / "here").rename(chain.folder / "there")
    moved = recipe(a={"uses": "chain.model", "with": {"weights": "there"}})

    assert chain.run(moved).executed == ["model"]
    assert chain.run(moved).executed == []
