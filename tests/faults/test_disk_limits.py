"""A disk that is really full, or really read-only: a small tmpfs in a private mount namespace (root writes into read-only modes)."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.chain import PLUGIN, Chain, recipe, step


def _can_mount(folder: Path) -> bool:
    folder.mkdir()
    command = f"mount -t tmpfs -o size=1m tmpfs {shlex.quote(str(folder))}"
    try:
        done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True)
    except FileNotFoundError:
        return False
    return done.returncode == 0


@pytest.fixture
def mounts(tmp_path: Path) -> None:
    """Skip where this process may not mount."""
    if not _can_mount(tmp_path / "probe"):
        pytest.skip("no private mount namespace here (needs unshare and the right to mount)")


def in_namespace(chain: Chain, lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run shell lines in a private mount namespace; `kpod` is this checkout's."""
    shell = f'kpod() {{ {shlex.quote(sys.executable)} -m kpod.runner "$@"; }}\n' + "\n".join(lines)
    environment = {**os.environ, "PYTHONPATH": str(PLUGIN), "KPOD_CHAIN_JOURNAL": str(chain.journal)}  # fmt: skip
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", shell],
        capture_output=True, text=True, cwd=chain.folder, env=environment, timeout=120,
    )  # fmt: skip


BIG = recipe(
    s1={"uses": "chain.numbers", "with": {"count": 100}},
    s2=step("s1", "s2"),
    s3={"uses": "chain.numbers", "with": {"count": 20_000}},
    s4={"uses": "chain.count", "in": {"questions": ["s2", "s3"]}},
)


@pytest.mark.usefixtures("mounts")
def test_a_full_disk_is_told_in_words_and_the_run_goes_on_when_there_is_space(
    chain: Chain,
) -> None:
    chain.write(BIG)
    (chain.folder / "runs").mkdir()

    done = in_namespace(
        chain,
        [
            "mount -t tmpfs -o size=1m tmpfs runs",
            "kpod run recipe.yaml; echo code $?",
            "mount -o remount,size=64m runs",
            "kpod run recipe.yaml; echo code $?",
        ],
    )

    assert [x for x in done.stdout.splitlines() if x.startswith("code")] == ["code 3", "code 0"]
    assert "no space left on device\nfree some space; the same command continues" in done.stderr
    assert "Traceback" not in done.stderr
    assert chain.executions().count("s2") == 1, "what was stored before is not made again"


@pytest.mark.usefixtures("mounts")
def test_a_disk_that_is_full_from_the_start_is_told_in_words(chain: Chain) -> None:
    chain.write(recipe(s1={"uses": "chain.numbers"}))
    (chain.folder / "runs").mkdir()

    done = in_namespace(
        chain,
        [
            "mount -t tmpfs -o size=64k tmpfs runs",
            "cat /dev/zero > runs/filler 2>/dev/null",
            "kpod run recipe.yaml; echo code $?",
        ],
    )

    assert "code 3" in done.stdout
    assert "no space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert chain.executions() == []


@pytest.mark.usefixtures("mounts")
def test_a_read_only_runs_folder_is_told_in_words_and_still_plans(chain: Chain) -> None:
    chain.write(recipe(s1={"uses": "chain.numbers"}, s2=step("s1", "s2")))
    chain.run()

    done = in_namespace(
        chain,
        [
            "mount --bind runs runs && mount -o remount,ro,bind runs",
            "touch runs/x 2>/dev/null && echo not read-only",
            "kpod plan recipe.yaml; echo plan $?",
            "kpod run recipe.yaml; echo run $?",
            "kpod run recipe.yaml --runs other; echo other $?",
        ],
    )

    assert "not read-only" not in done.stdout
    assert "2 of 2 from the store, 0 to run" in done.stdout
    assert [
        line for line in done.stdout.splitlines() if line.split()[0] in {"plan", "run", "other"}
    ] == ["plan 0", "run 3", "other 0"]
    assert "read-only file system\nthe file system is read-only; name other folders" in done.stderr
    assert "Traceback" not in done.stderr
    assert chain.executions() == ["numbers", "s2"] * 2


@pytest.mark.usefixtures("mounts")
def test_a_store_on_another_file_system_is_copied_into_the_archive(chain: Chain) -> None:
    chain.write(recipe(s1={"uses": "chain.numbers"}))
    (chain.folder / "elsewhere").mkdir()

    done = in_namespace(
        chain,
        [
            "mount -t tmpfs -o size=8m tmpfs elsewhere",
            "kpod run recipe.yaml --store elsewhere/store; echo code $?",
        ],
    )

    assert "code 0" in done.stdout
    assert len(list(chain.runs.glob("*/stages/s1/questions.jsonl"))) == 1
