"""Files that no export wrote as they are: cut, flipped, leading out of their folder, with links or devices; nothing is imported."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kpod.runner.archive import Archive
from kpod.runner.bundle import export_run, import_run
from kpod.runner.cli import main
from kpod.runner.errors import KpodError
from kpod.runner.memo import files_below
from kpod.runner.seal import damage
from tests.chain import Chain, recipe
from tests.runner.two_runs import (  # noqa: F401 - fixtures are found by their names
    SCORES,
    Two,
    change_facts,
    made_fixture,
    two_fixture,
    with_fact,
)


@pytest.fixture(name="bundle")
def bundle_fixture(two: Two, tmp_path: Path) -> Path:
    """A sound file."""
    export_run(Archive(two.bad), tmp_path / "bundle")
    return tmp_path / "bundle"


def repacked(run: Path, to: Path, *members: tarfile.TarInfo) -> Path:
    """A file of a run's folder, with more in it."""
    with tarfile.open(to, "w:gz") as tar:
        tar.add(run, run.name)
        for member in members:
            tar.addfile(member, io.BytesIO(b"x" * member.size))
    return to


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """Something in a file."""
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.size = kind, link, 1 if kind == tarfile.REGTYPE else 0
    return found


def refused(file: Path, runs: Path, said: str) -> None:
    """An import that must bring nothing, and leave nothing."""
    around = {path.name for path in runs.parent.iterdir()} | {runs.name}
    assert main(["archive", "import", str(file), "--runs", str(runs)]) == 2, said
    assert list(runs.iterdir()) == []
    assert {path.name for path in runs.parent.iterdir()} == around


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_a_file_that_is_cut_anywhere_brings_nothing(
    bundle: Path, share: float, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    raw = bundle.read_bytes()
    bundle.write_bytes(raw[: int(len(raw) * share)])

    refused(bundle, tmp_path / "to", "cut")

    said = capsys.readouterr().err
    assert f"{bundle} cannot be unpacked: " in said or "holds no complete run" in said
    assert "`kpod archive export RUN` writes" in said


def test_a_flipped_byte_anywhere_is_noticed_or_changes_nothing(
    two: Two, bundle: Path, tmp_path: Path
) -> None:
    """Some flips say the same in other words: tar pads with zeros, and deflate may copy them from here or from there."""
    raw = bundle.read_bytes()
    sent = {path.relative_to(two.bad): path.read_bytes() for path in files_below(two.bad)}
    assert sent

    told = []
    for place in range(0, len(raw), len(raw) // 150):
        bundle.write_bytes(raw[:place] + bytes([raw[place] ^ 16]) + raw[place + 1 :])
        try:
            here = import_run(bundle, tmp_path / "to").folder
        except KpodError as error:
            told.append(str(error))
        else:
            assert {p.relative_to(here): p.read_bytes() for p in files_below(here)} == sent
            shutil.rmtree(here)
        assert list((tmp_path / "to").iterdir()) == []
    assert len(told) > 130  # measured: 1 flip of 120 changes nothing
    for words in told:
        assert re.search(r"cannot be unpacked|is damaged|no complete run|nothing was", words)


def test_a_file_that_ends_between_two_of_its_members_is_damaged(
    two: Two, bundle: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with tarfile.open(bundle) as tar:
        (last,) = [one for one in tar if one.name.endswith(SCORES)]
    plain = gzip.decompress(bundle.read_bytes())[: last.offset]
    bundle.write_bytes(gzip.compress(plain + bytes(1024)))

    refused(bundle, tmp_path / "to", "short")

    assert (
        "scores[long]: predictions.jsonl is gone; nothing was imported" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (member("../climbed"), "cannot be unpacked: "),
        (member("run/../../climbed"), "cannot be unpacked: "),
        (member("/tmp/kpod-climbed"), "is damaged|holds no complete run|cannot be unpacked"),
        (member("run/link", tarfile.SYMTYPE, "/etc/passwd"), "neither a file nor a folder"),
        (member("run/link", tarfile.SYMTYPE, "run.json"), "neither a file nor a folder"),
        (member("run/hard", tarfile.LNKTYPE, "run/run.json"), "neither a file nor a folder"),
        (member("run/null", tarfile.CHRTYPE), "neither a file nor a folder"),
        (member("run/disk", tarfile.BLKTYPE), "neither a file nor a folder"),
        (member("run/pipe", tarfile.FIFOTYPE), "neither a file nor a folder"),
        (member("run/stages/scores/more.jsonl"), "was added"),
        (member("run/stages"), "cannot be unpacked: "),
        (member("other/run.json"), "holds no complete run"),
    ],
    ids=lambda it: it.name if isinstance(it, tarfile.TarInfo) else "",
)  # fmt: skip
def test_what_no_export_writes_is_refused(
    two: Two, more: tarfile.TarInfo, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run = two.bad.rename(two.bad.with_name("run"))
    (tmp_path / "place").mkdir()
    file = repacked(run, tmp_path / "file", more)
    if more.name.startswith("/"):  # made a name below the folder, where it is no part of the run
        imported = import_run(file, tmp_path / "place" / "to")
        assert not Path(more.name).exists()
        assert list(damage(imported)) == []
        return

    refused(file, tmp_path / "place" / "to", said)

    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (with_fact("format", 7), "nothing was imported\nrun has archive format 7, this kpod reads 1"),
        (lambda run: (run / "run.json").write_text("{"), "nothing was imported\nrun: run.json is cut"),
        (lambda run: (run / "run.json").unlink(), "holds no complete run"),
        (lambda run: (run / "origins.json").write_text("{}"), "is damaged: origins.json was changed"),
        (lambda run: shutil.rmtree(run / "stages"), "is gone; and 4 more; nothing was imported"),
    ],
)  # fmt: skip
def test_a_run_that_is_not_whole_is_not_imported(
    two: Two, break_it: Callable[[Path], object], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:  # fmt: skip
    run = two.bad.rename(two.bad.with_name("run"))
    break_it(run)

    refused(repacked(run, tmp_path / "file"), tmp_path / "to", said)

    assert said in capsys.readouterr().err


def test_a_copy_of_a_local_input_belongs_to_what_is_checked(
    chain: Chain, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (chain.folder / "numbers.txt").write_text("1 2", encoding="utf-8")
    plain = recipe(a={"uses": "chain.numbers", "with": {"path": "numbers.txt"}})
    archive = chain.run(plain).archive
    (copy,) = (archive.folder / "inputs").iterdir()
    assert list(damage(archive)) == []

    copy.chmod(0o644)
    copy.write_text("1 3", encoding="utf-8")
    assert list(damage(archive)) == [f"inputs/{copy.name} was changed"]
    assert main(["rerun", "last", "--runs", str(chain.runs)]) == 0
    assert f"inputs/{copy.name} was changed" in capsys.readouterr().err

    copy.unlink()
    assert list(damage(archive)) == [f"inputs/{copy.name} is gone"]
    assert main(["rerun", archive.name, "--runs", str(chain.runs)]) == 0
    assert main(["archive", "export", archive.name, "--to", str(tmp_path / "file"), "--runs", str(chain.runs)]) == 2  # fmt: skip


def test_a_folder_is_no_file_of_a_run(two: Two, tmp_path: Path) -> None:
    with pytest.raises(KpodError, match="is a folder, not a file that `kpod archive export` wrote"):
        import_run(two.bad, tmp_path / "to")
    (tmp_path / "taken").write_text("mine", encoding="utf-8")
    with pytest.raises(KpodError, match=r"cannot write in the runs folder .*taken: "):
        import_run(two.bad, tmp_path / "taken")
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "mine"
