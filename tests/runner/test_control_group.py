"""Memory that a container or a cluster's job may use, read from files as Linux has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kpod.runner import capability
from kpod.runner.control_group import memory_limit_b


def limit(folder: Path, name: str, text: str) -> None:
    path = folder / "fs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n", encoding="ascii")


def told(folder: Path, membership: str) -> int | None:
    (folder / "cgroup").write_text(membership, encoding="utf-8")
    return memory_limit_b(folder / "cgroup", folder / "fs")


def test_the_least_limit_of_a_group_and_those_above_it_holds(tmp_path: Path) -> None:
    limit(tmp_path, "slurm/job/step/memory.max", "max")
    limit(tmp_path, "slurm/job/memory.max", "4000")
    limit(tmp_path, "slurm/memory.max", "9000")

    assert told(tmp_path, "0::/slurm/job/step\n") == 4000
    assert told(tmp_path, "0::/slurm\n") == 9000


def test_a_container_that_sees_its_own_group_as_the_root_is_limited_by_it(tmp_path: Path) -> None:
    limit(tmp_path, "memory.max", "5000")

    assert told(tmp_path, "0::/docker/0123abcd\n") == 5000
    assert told(tmp_path, "0::/../outside\n") == 5000


def test_groups_of_version_1_have_their_own_file(tmp_path: Path) -> None:
    limit(tmp_path, "memory/job/memory.limit_in_bytes", "7000")
    limit(tmp_path, "memory/memory.limit_in_bytes", str(2**63 - 4096))

    assert told(tmp_path, "5:devices:/\n4:memory:/job\n0::/\n") == 7000


def test_no_limit_is_none(tmp_path: Path) -> None:
    assert told(tmp_path, "0::/\n5:cpu,cpuacct:/a\n") is None
    assert memory_limit_b(tmp_path / "nothing", tmp_path) is None


@pytest.mark.parametrize(
    ("limited", "expected"), [(None, None), (1 << 20, 1 << 20), (1 << 60, None)]
)
def test_the_capability_has_the_lesser_of_limit_and_machine(
    monkeypatch: pytest.MonkeyPatch, limited: int | None, expected: int | None
) -> None:
    monkeypatch.setattr(capability, "memory_limit_b", lambda: limited)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert capability.read_capability().memory_b == (expected or machine)
