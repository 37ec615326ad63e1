"""What a run leaves behind, and finding it again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from kpod.runner import KpodError, Question, StageError
from kpod.runner.archive import Archive, find_run, list_runs
from kpod.runner.copies import copy_whole, link_or_copy
from kpod.runner.disk import DISK, Disk
from kpod.runner.memo import hash_file
from kpod.runner.running import read_records
from tests.chain import Chain, recipe, seven, step

PAGED = recipe(a={"uses": "chain.numbers"}, b=step("a", "b"), page={"uses": "chain.page"})


def test_an_archive_holds_the_recipe_as_given_and_all_that_explains_it(chain: Chain) -> None:
    archive = chain.run(PAGED).archive

    names = {path.name for path in archive.folder.iterdir()}
    assert {"recipe.yaml", "resolved.yaml", "origins.json", "run.json", "events.jsonl", "stages", "report.html", "report.json"} == names  # fmt: skip
    assert (chain.folder / chain.name).read_text() == (archive.folder / "recipe.yaml").read_text()
    facts = archive.facts
    assert {"python", "platform", "processor", "executable"} == set(facts["machine"])
    assert "torch" in facts["packages"]
    assert [row["name"] for row in facts["units"]] == ["a", "b"]
    assert facts["views"] == {"page": "chain.page"}


def test_outputs_are_links_into_the_store_and_survive_it(chain: Chain) -> None:
    archive = chain.run(PAGED).archive
    unit = archive.units["b"]
    path = archive.output_path(unit, "result")
    assert path.stat().st_nlink == 2

    chain.session().store.remove(unit.manifest.key)

    assert len(list(archive.read(unit, "result", Question))) == 10


def test_a_local_input_is_kept_in_the_archive(chain: Chain) -> None:
    (chain.folder / "numbers.txt").write_text("1 2", encoding="utf-8")
    plain = recipe(a={"uses": "chain.numbers", "with": {"path": "numbers.txt"}})
    first = chain.run(plain).archive
    (chain.folder / "numbers.txt").unlink()

    (row,) = first.facts["sources"]
    assert (first.folder / row["archived"]).read_text(encoding="utf-8") == "1 2"
    substitutes = {row["original"]: first.folder / row["archived"]}
    assert chain.run(plain, substitutes=substitutes).executed == []


def test_run_json_is_written_last(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Disk, path: Path, text: str) -> None:
        if path.name == "run.json.part":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(self, path, text)

    write = Disk.write_text
    monkeypatch.setattr(Disk, "write_text", refuse)
    with pytest.raises(StageError, match="no space left on device"):
        chain.run(PAGED)
    (archive,) = list_runs(chain.runs)

    assert not archive.is_complete
    with pytest.raises(
        KpodError, match=r"did not come to its end .*\nkpod resume .* goes on with it"
    ):
        _ = archive.facts
    with pytest.raises(KpodError, match="there is no complete run in"):
        find_run("last", chain.runs)


def test_a_run_is_found_by_folder_name_part_and_last(chain: Chain) -> None:
    first = chain.run(PAGED).archive
    second = chain.run({**PAGED, "name": "other"}).archive

    assert second.folder == find_run("last", chain.runs).folder
    assert first.folder == find_run(str(first.folder), chain.runs).folder
    assert first.folder == find_run(first.name, Path(chain.runs)).folder
    assert second.folder == find_run("other", chain.runs).folder
    with pytest.raises(KpodError, match=r"'2' fits 2 runs\nallowed: "):
        find_run("2", chain.runs)
    with pytest.raises(KpodError, match=r"there is no run 'nothing' in .*\nkpod runs lists them"):
        find_run("nothing", chain.runs)


def test_the_last_of_several_runs_in_one_second_is_the_one_that_ended_last(chain: Chain) -> None:
    names = [chain.run({**PAGED, "name": name}).archive.name for name in "zyx"]

    assert names[-1] == find_run("last", chain.runs).name
    assert names == [archive.name for archive in list_runs(chain.runs)]


def test_an_archive_of_another_format_is_refused_by_number(chain: Chain) -> None:
    folder = chain.run(PAGED).archive.folder
    facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**facts, "format": 99}), encoding="utf-8")

    with pytest.raises(KpodError, match="has archive format 99, this kpod reads 1"):
        _ = Archive(folder).facts


def test_an_output_that_is_gone_is_told(chain: Chain) -> None:
    archive = chain.run(PAGED).archive
    archive.output_path(archive.units["b"], "result").unlink()

    with pytest.raises(KpodError, match="is gone from the archive; run the same command again"):
        list(archive.read(archive.units["b"], "result", Question))


def test_units_of_a_split_stage_have_a_folder_each(chain: Chain) -> None:
    archive = chain.run(seven()).archive

    assert (archive.folder / "stages" / "s7" / "s6" / "counts.jsonl").exists()
    assert archive.units["s7[s6]"].element == "s6"


def test_the_page_of_a_run_in_which_nothing_ran_is_the_earlier_one(chain: Chain) -> None:
    first = chain.run(PAGED)
    again = chain.run()
    changed = chain.run(recipe(**{**PAGED["stages"], "b": step("a", "b", add=4)}))

    assert tuple(ran.executed.count("page") for ran in (first, again, changed)) == (1, 0, 1)
    pages = [ran.archive.folder / "report.html" for ran in (first, again, changed)]
    assert pages[0].stat().st_ino == pages[1].stat().st_ino != pages[2].stat().st_ino


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
def test_where_no_link_can_be_a_copy_is_made(tmp_path: Path, number: int) -> None:
    class Linkless(Disk):
        """A disk without links."""

        def link(self, source: Path, target: Path) -> None:
            raise OSError(number, os.strerror(number))

    (tmp_path / "a").write_text("a", encoding="utf-8")
    link_or_copy(tmp_path / "a", tmp_path / "sub" / "b", disk=Linkless())
    link_or_copy(tmp_path / "a", tmp_path / "sub" / "c", disk=DISK)

    assert tuple((tmp_path / "sub" / n).stat().st_nlink for n in "bc") == (1, 2)


def test_a_copy_of_what_changed_meanwhile_is_not_kept(tmp_path: Path) -> None:
    source = tmp_path / "a"
    source.write_text("before", encoding="utf-8")
    digest = hash_file(source)
    source.write_text("after", encoding="utf-8")

    assert not copy_whole(source, tmp_path / "kept" / digest, digest=digest)
    assert list((tmp_path / "kept").iterdir()) == []


def test_records_read_back_equal(chain: Chain) -> None:
    archive = chain.run(PAGED).archive
    path = archive.output_path(archive.units["a"], "questions")

    (first, *_) = read_records(path, Question)

    assert Question.make("0", kind="numeric", answer="0", split="train", source="chain") == first
