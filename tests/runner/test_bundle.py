"""A run as one file, carried elsewhere; and whether a run is what it was."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from kpod.runner.archive import Archive, list_runs
from kpod.runner.bundle import export_run, import_run
from kpod.runner.cli import main
from kpod.runner.errors import KpodError
from kpod.runner.seal import damage
from tests.chain import Chain, output_bytes, seven


def test_a_run_is_carried_in_one_file_and_made_again_elsewhere(
    chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = chain.run(seven()).archive
    file, elsewhere = tmp_path / "run.tar.gz", tmp_path / "elsewhere"

    assert main(["archive", "export", "last", "--to", str(file), "--runs", str(chain.runs)]) == 0
    assert main(["archive", "import", str(file), "--runs", str(elsewhere)]) == 0

    found = list_runs(elsewhere)[0]
    assert found.name == archive.name
    assert output_bytes(found) == output_bytes(archive)
    assert main(["rerun", "last", "--verify", "--runs", str(elsewhere)]) == 0
    assert "7 bit-identical" in capsys.readouterr().out
    with pytest.raises(KpodError, match="is there already; nothing was imported"):
        import_run(file, elsewhere)
    with pytest.raises(KpodError, match="is there already\nname another file"):
        export_run(archive, file)


def test_the_same_run_is_the_same_file(chain: Chain, tmp_path: Path) -> None:
    archive = chain.run(seven()).archive

    export_run(archive, tmp_path / "a")
    export_run(archive, tmp_path / "b")

    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_torn_foreign_or_changed_file_imports_nothing(chain: Chain, tmp_path: Path) -> None:
    archive = chain.run(seven()).archive
    export_run(archive, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    runs = tmp_path / "imported"

    (tmp_path / "torn").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "foreign").write_bytes(b"hello")
    with tarfile.open(tmp_path / "empty", "w:gz"):
        pass
    for name, said in (("torn", "cannot be unpacked"), ("foreign", "cannot be unpacked"), ("empty", "no complete run"), ("none", "there is no file")):  # fmt: skip
        with pytest.raises(KpodError, match=said):
            import_run(tmp_path / name, runs)

    changed = _changed_copy(tmp_path / "whole", tmp_path, "stages/s1/questions.jsonl", b"{}")
    with pytest.raises(KpodError, match=r"is damaged: s1: questions.jsonl was changed; nothing"):
        import_run(changed, runs)
    assert list(runs.iterdir()) == []


def _changed_copy(file: Path, folder: Path, name: str, data: bytes) -> Path:
    with tarfile.open(file) as tar:
        tar.extractall(folder / "inside", filter="data")
    (run,) = (folder / "inside").iterdir()
    (run / name).write_bytes(data)
    with tarfile.open(folder / "changed", "w:gz") as tar:
        tar.add(run, run.name)
    return folder / "changed"


def test_facts_that_were_changed_by_hand_are_refused(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = chain.run(seven()).archive
    words = ["--runs", str(chain.runs)]
    assert main(["archive", "verify", "last", *words]) == 0
    assert "whole, sealed" in capsys.readouterr().out

    (archive.folder / "resolved.yaml").write_text("kpod: 1\n", encoding="utf-8")
    assert list(damage(Archive(archive.folder))) == ["resolved.yaml was changed"]
    assert main(["archive", "verify", "last", *words]) == 3

    path = archive.folder / "run.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    facts["seed"] += 1
    path.write_text(json.dumps(facts), encoding="utf-8")
    with pytest.raises(KpodError, match=r"run\.json is not what it was"):
        _ = Archive(archive.folder).facts


def test_a_run_from_before_seals_is_read_as_it_is(chain: Chain) -> None:
    archive = chain.run(seven()).archive
    path = archive.folder / "run.json"
    facts = json.loads(path.read_text(encoding="utf-8"))
    del facts["seal"], facts["files"]
    path.write_text(json.dumps(facts), encoding="utf-8")

    assert Archive(archive.folder).facts["seed"] == facts["seed"]
    assert list(damage(Archive(archive.folder))) == []
