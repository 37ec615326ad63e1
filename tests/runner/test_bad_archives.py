"""Runs whose facts are torn, changed, of another version, or from another machine: told in words, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from kpod.runner.archive import Archive, find_run, list_runs
from kpod.runner.cli import main
from kpod.runner.errors import KpodError
from kpod.runner.garbage import GRACE_S, find_garbage
from kpod.runner.store import Store
from tests.chain import Chain
from tests.runner.two_runs import (  # noqa: F401 - fixtures are found by their names
    Two,
    change_facts,
    cut,
    made_fixture,
    school,
    snapshot,
    two_fixture,
    with_fact,
)


def _climb(facts: dict[str, Any]) -> None:
    next(iter(facts["units"][0]["manifest"]["outputs"].values()))["files"][0]["path"] = "../../x"


UNREADABLE: Mapping[str, tuple[Callable[[Path], None], str]] = {
    "newer": (with_fact("format", 2), "has archive format 2, this kpod reads 1"),
    "older": (with_fact("format", 0), "has archive format 0, this kpod reads 1"),
    "torn": (cut, "run.json is cut or overwritten"),
    "empty": (lambda run: (run / "run.json").write_bytes(b""), "run.json is cut or overwritten"),
    "foreign": (
        lambda run: (run / "run.json").write_bytes(b"[1]"),
        "run.json is cut or overwritten",
    ),
    "bytes": (
        lambda run: (run / "run.json").write_bytes(b'{"a": "\xff"}'),
        "run.json is cut or overwritten",
    ),
    "changed": (
        lambda run: change_facts(run, lambda facts: facts.update(seed=5), is_sealed=False),
        "run.json is not what it was when the run ended",
    ),
    "not finite": (
        lambda run: change_facts(
            run, lambda facts: facts.update(seconds=float("nan")), is_sealed=False
        ),
        "run.json is not what it was when the run ended",
    ),
    "lacking": (
        lambda run: change_facts(run, lambda facts: facts.pop("primary"), is_sealed=True),
        "run.json is of another form: it lacks primary",
    ),
    "other units": (with_fact("units", [{"name": "a"}]), "run.json is of another form: KeyError"),
    "climbing": (
        lambda run: change_facts(run, _climb, is_sealed=True),
        "run.json names a file outside of the run: ../../x",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_facts_that_cannot_be_trusted_are_told_by_every_command_and_the_run_is_left_as_it_is(
    two: Two, kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    break_it, said = UNREADABLE[kind]
    break_it(two.bad)
    before, name = snapshot(two.bad), two.bad.name

    for words in (
        ["show", name], ["show", name, "seed"], ["show", name, "q_abcd"], ["diff", name, two.good.name],
        ["diff", two.good.name, name], ["diff", name, two.good.name, two.good.name], ["rerun", name],
        ["rerun", name, "--verify"], ["report", name], ["archive", "verify", name],
        ["export", name, "--as", "predictions", "--to", str(tmp_path / "rows")],
        ["archive", "export", name, "--to", str(tmp_path / "file")],
    ):  # fmt: skip
        assert two.kpod(*words) == 2, words
        assert said in capsys.readouterr().err, words
    assert snapshot(two.bad) == before
    assert {path.name for path in two.runs.iterdir()} == {".store", name, two.good.name}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_one_bad_run_hides_no_other_and_its_results_are_no_garbage(
    two: Two, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it, said = UNREADABLE[kind]
    break_it(two.bad)

    assert two.kpod("runs") == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert said in lines[two.bad.name]
    assert "  school  0     2/5  " in lines[two.good.name]
    assert two.kpod("runs", "--json") == 0
    problems = {row["run"]: row["problem"] for row in json.loads(capsys.readouterr().out)}
    assert problems[two.good.name] is None
    assert said in problems[two.bad.name]
    later_s = two.bad.stat().st_mtime + 2 * GRACE_S
    assert find_garbage(Store(two.runs / ".store"), two.runs, now_s=later_s).entries == ()


def test_a_diff_does_without_the_seeds_of_a_bad_run_and_says_so(
    two: Two, chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    third = chain.run(school(seed=1)).archive.folder
    assert two.kpod("diff", two.bad.name, third.name) == 0
    assert "nothing but the seed" in capsys.readouterr().out
    fourth = chain.run(school(seed=2)).archive.folder
    cut(third)

    assert two.kpod("diff", two.bad.name, two.good.name) == 0
    told = capsys.readouterr().out
    assert two.kpod("diff", two.bad.name, fourth.name) == 0
    apart = capsys.readouterr().out

    reason = f"{third.name}: run.json is cut or overwritten"
    assert f"no claim, as a run of another seed cannot be read: {reason}" in told
    assert f"other seeds cannot be told of: {reason}; no winner is named" in apart
    assert "better student" not in apart


def _to_its_start(run: Path) -> None:
    shutil.rmtree(run / "stages")
    for name in ("run.json", "events.jsonl"):
        (run / name).unlink()


def _torn_in_the_middle(run: Path) -> None:
    (run / "run.json").unlink()
    events = run / "events.jsonl"
    events.write_bytes(events.read_bytes()[:-400] + b'{"at": "2026')


def _foreign_events(run: Path) -> None:
    (run / "run.json").unlink()
    (run / "events.jsonl").write_bytes(b'7\n{"at": 1}\n{"event": "run_failed"}\n')


@pytest.mark.parametrize(
    ("break_it", "end"),
    [
        (_to_its_start, "unfinished"),
        (_torn_in_the_middle, "unfinished"),
        (_foreign_events, "failed: no reason was written"),
    ],
)
def test_a_run_that_did_not_come_to_its_end_is_told_as_that_and_goes_on(
    two: Two, break_it: Callable[[Path], None], end: str, capsys: pytest.CaptureFixture[str]
) -> None:
    break_it(two.bad)
    before, name = snapshot(two.bad), two.bad.name

    for words in (
        ["show", name], ["diff", name, two.good.name], ["rerun", name, "--verify"], ["report", name],
        ["archive", "verify", name], ["archive", "export", name], ["export", name, "--as", "predictions"],
    ):  # fmt: skip
        assert two.kpod(*words) == 2, words
        said = f"{name} did not come to its end ({end})\nkpod resume {name} goes on with it"
        assert said in capsys.readouterr().err
    assert two.kpod("runs") == 0
    assert end in capsys.readouterr().out
    assert two.kpod("resume", name) == 0
    assert f"{name}: {end}" in capsys.readouterr().out
    assert snapshot(two.bad) == before
    assert len([run for run in list_runs(two.runs) if run.is_complete]) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resolved.yaml", ["rerun"]), ("resolved.yaml", ["rerun", "--verify"]), ("resolved.yaml", ["show", "seed"]),
        ("origins.json", ["rerun"]), ("origins.json", ["show", "seed"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("is_gone", [True, False])
def test_a_recipe_that_was_changed_in_the_archive_is_not_run_again_as_if_it_were_that_of_the_run(
    two: Two, name: str, words: list[str], is_gone: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two.bad / name
    if is_gone and name == "resolved.yaml":
        path.unlink()
        assert two.kpod(words[0], two.bad.name, *words[1:]) == 2
        assert f"there is no run '{two.bad.name}'" in capsys.readouterr().err
        return
    if is_gone:
        path.unlink()
    else:
        path.write_text(path.read_text("utf-8").replace("short", "shorts"), encoding="utf-8")

    assert two.kpod(words[0], two.bad.name, *words[1:]) == 2

    said = "is gone from the archive" if is_gone else "is not what it was when the run ended"
    assert f"{name} {said}" in capsys.readouterr().err
    assert len(list_runs(two.runs)) == 2


def test_an_archive_needs_no_store(
    two: Two, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.rmtree(two.runs / ".store")
    name = two.bad.name

    for words in (
        ["runs"], ["show", name], ["diff", name, two.good.name], ["report", name], ["archive", "verify", name],
        ["export", f"{name}:long", "--as", "predictions", "--to", str(tmp_path / "rows")],
        ["archive", "export", name, "--to", str(tmp_path / "file")], ["rerun", name, "--verify"], ["rerun", name],
    ):  # fmt: skip
        assert two.kpod(*words) == 0, (words, capsys.readouterr().err)


def test_a_run_lacks_a_stored_result_and_is_run_again_with_that_alone_executed(
    two: Two, chain: Chain
) -> None:
    key = Archive(two.bad).units["short"].manifest.key
    Store(two.runs / ".store").remove(key)

    assert two.kpod("rerun", two.bad.name) == 0
    assert chain.executions() == ["pupil"]


def _from_elsewhere(facts: dict[str, Any]) -> None:
    facts["recipe"] = "C:\\Users\\ann\\school.yaml"
    facts["store"] = "/mnt/elsewhere/.store"
    facts["machine"] = {"python": "3.13.1", "platform": "Windows-11", "processor": "", "executable": "C:\\py.exe"}  # fmt: skip
    facts["packages"] = {"kpod": "9.9.9", "left-pad": "1.0"}
    facts["capability"] = {**facts["capability"], "device": "npu", "num_npus": 4}
    facts["git"] = None
    facts["new_in_a_later_kpod"] = {"a": 1}


def test_a_run_of_another_machine_and_another_kpod_is_read_compared_and_run_again(
    two: Two, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    change_facts(two.bad, _from_elsewhere, is_sealed=True)
    name, elsewhere = two.bad.name, tmp_path / "elsewhere"

    assert two.kpod("diff", name, two.good.name) == 0
    told = capsys.readouterr().out
    assert "machine platform" in told
    assert "packages kpod" in told
    assert two.kpod("archive", "export", name, "--to", str(tmp_path / "file")) == 0
    there = ["--runs", str(elsewhere)]
    assert main(["archive", "import", str(tmp_path / "file"), *there]) == 0
    for words in (
        ["runs"], ["show", name], ["report", name], ["archive", "verify", name], ["rerun", name], ["rerun", name, "--verify"],
    ):  # fmt: skip
        assert main([*words, *there]) == 0, (words, capsys.readouterr().err)
    assert "bit-identical" in capsys.readouterr().out


def test_a_capability_that_tells_too_little_is_refused(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    with_fact("capability", {"device": "cpu"})(two.bad)

    assert two.kpod("rerun", two.bad.name) == 2
    assert "run.json is of another form: capability: " in capsys.readouterr().err


def test_what_is_no_run_in_the_folder_of_runs_is_passed_over(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    (two.runs / "notes.txt").write_text("mine", encoding="utf-8")
    (two.runs / "empty").mkdir()
    (two.runs / "tree" / "resolved.yaml").mkdir(parents=True)
    (two.runs / ".hidden").mkdir()
    (two.runs / ".hidden" / "resolved.yaml").touch()
    (two.runs / "facts").mkdir()
    (two.runs / "facts" / "run.json").write_text("{}", encoding="utf-8")
    (two.runs / "nowhere").symlink_to("/nonexistent/place")

    assert {run.name for run in list_runs(two.runs)} == {two.bad.name, two.good.name}
    assert two.kpod("runs") == 0
    assert two.kpod("cache", "gc") == 0
    for name in ("notes.txt", "empty", "tree", "facts", "nowhere", str(two.runs / "facts"), "x" * 300):  # fmt: skip
        with pytest.raises(KpodError, match="there is no run"):
            find_run(name, two.runs)
    capsys.readouterr()
    assert main(["runs", "--runs", str(two.runs / "notes.txt")]) == 0
    assert "no runs in" in capsys.readouterr().out


@pytest.fixture(name="read_only")
def read_only_fixture(two: Two, monkeypatch: pytest.MonkeyPatch) -> Iterator[Two]:
    """Both runs, in a folder in which nothing can be made, renamed or removed; a draft of a killed run lies in the store."""
    left = two.runs / ".store" / "tmp" / "cafe-1-2"
    left.mkdir(parents=True)
    os.utime(left, (1.0, 1.0))

    def guarded(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **more: Any) -> Any:
            if str(path).startswith(str(two.runs)):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return real(path, *rest, **more)

        return call

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, guarded(name))
    with pytest.raises(OSError, match="Read-only"):
        (two.runs / "x").mkdir()
    yield two
    monkeypatch.undo()


def test_a_read_only_folder_of_runs_is_read_and_told_as_that_where_something_is_to_be_written(
    read_only: Two, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    two, name = read_only, read_only.bad.name
    file = tmp_path / "file"

    for words in (
        ["runs"], ["show", name], ["diff", name, two.good.name], ["archive", "verify", name], ["cache", "gc"],
        ["export", f"{name}:long", "--as", "predictions", "--to", str(tmp_path / "rows")],
        ["archive", "export", name, "--to", str(file)],
    ):  # fmt: skip
        assert two.kpod(*words) == 0, (words, capsys.readouterr().err)
    for words in (
        ["rerun", name, "--verify"], ["archive", "import", str(file)], ["cache", "gc", "--yes"],
        ["archive", "export", name, "--to", str(two.runs / "file")],
    ):  # fmt: skip
        assert two.kpod(*words) in {2, 3}, words
        assert "the file system is read-only; name other folders" in capsys.readouterr().err, words


def test_an_export_that_cannot_be_written_is_told_and_leaves_nothing(
    two: Two, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    to = tmp_path / "none" / "file"

    assert two.kpod("archive", "export", two.bad.name, "--to", str(to)) == 2
    assert f"cannot write {to}: no such file or directory\nname another file with --to" in capsys.readouterr().err  # fmt: skip
    assert not to.parent.exists()
