"""What a run ran on and with."""

from __future__ import annotations

import subprocess
from importlib.metadata import distributions
from pathlib import Path

from kpod.runner.environment import git_state, machine_facts, package_versions
from kpod.runner.memo import Memo


def test_versions_are_those_that_the_metadata_says(tmp_path: Path) -> None:
    expected = {
        str(dist.metadata["Name"]).lower(): dist.metadata["Version"] for dist in distributions()
    }

    assert package_versions(Memo(tmp_path / "memo.sqlite")) == expected


def test_versions_are_read_once(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo.sqlite")
    first = package_versions(memo)

    assert package_versions(memo) == first
    assert "torch" in first


def test_the_state_of_a_repository_is_its_commit_and_whether_files_differ(tmp_path: Path) -> None:
    if not any((above / ".git").exists() for above in tmp_path.parents):
        assert git_state(tmp_path, with_status=True) is None
    for words in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)

    found = git_state(tmp_path, with_status=True)

    assert found is not None
    assert (len(found["commit"]), found["is_dirty"]) == (40, False)


def test_the_machine_is_named() -> None:
    assert {"python", "platform", "processor", "executable"} == set(machine_facts())
