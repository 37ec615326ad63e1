"""What lies damaged on the disk is noticed, set aside, told and made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kpod.runner import Rationale
from kpod.runner.archive import Archive
from kpod.runner.events import read_events
from kpod.runner.store import Store
from tests.chain import Chain, entry_files, output_bytes, recipe, seven


def damage(path: Path, change: bytes | None = None) -> None:
    """Flip one bit in the middle of a file, or write other bytes."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(raw) if change is None else change)


def entry_file_of(archive: Archive, store: Path, unit: str) -> Path:
    """The stored file of a unit with one output."""
    manifest = archive.units[unit].manifest
    (output,) = manifest.outputs.values()
    return Store(store).entry_folder(manifest.key) / output.files[0].path


def test_stored_files_are_read_only(chain: Chain) -> None:
    chain.run(seven())

    modes = {path.stat().st_mode & 0o777 for path in entry_files(chain.store, "*.jsonl")}

    assert {0o444} == modes


def test_a_flipped_bit_is_found_when_a_stage_reads_it_and_the_stage_behind_it_runs_again(
    chain: Chain,
) -> None:
    first = chain.run(seven())
    expected = output_bytes(first.archive)
    damaged = entry_file_of(first.archive, chain.store, "s3")
    damage(damaged)
    assert expected["s3/result.jsonl"] != damaged.read_bytes()
    said: list[dict[str, object]] = []

    again = chain.session(seven(s4={"add": 7}))
    again.run([said.append])

    assert chain.executions()[7:] == ["s3", "s4", "s5", "s6", "count"]
    corrupt = [row for row in said if row["event"] == "entry_corrupt"]
    assert [row["id"] for row in corrupt] == ["s3"]
    assert [row["reason"] for row in corrupt] == ["result.jsonl changed after it was stored"]
    assert expected["s3/result.jsonl"] == damaged.read_bytes()
    assert [reason for _, reason in again.store.quarantined()] == [
        "result.jsonl changed after it was stored"
    ]


def test_verify_names_the_files_that_differ(chain: Chain) -> None:
    first = chain.run(seven())
    damage(entry_file_of(first.archive, chain.store, "s3"))
    store = Store(chain.store)

    found = {key: store.verify(entry) for key in list(store.keys()) if (entry := store.get(key))}

    key = first.archive.units["s3"].manifest.key
    assert {key: ["result.jsonl"]} == {name: files for name, files in found.items() if files}


def test_a_file_of_another_size_is_a_miss_at_once(chain: Chain) -> None:
    first = chain.run(seven())
    damage(entry_file_of(first.archive, chain.store, "s3"), b"{}\n")

    again = chain.run()

    assert again.executed == ["s3"]
    assert output_bytes(again.archive)["s3/result.jsonl"] != b"{}\n"
    assert [reason for _, reason in Store(chain.store).quarantined()] == [
        "result.jsonl has not the size that its manifest says"
    ]


def test_a_file_that_is_gone_is_a_miss_and_told_as_gone(chain: Chain) -> None:
    first = chain.run(seven())
    entry_file_of(first.archive, chain.store, "s3").unlink()

    assert chain.run().executed == ["s3"]
    assert [reason for _, reason in Store(chain.store).quarantined()] == ["result.jsonl is gone"]


@pytest.mark.parametrize("text", ["", '{"key": ', "[]", '{"outputs": []}', "null", "\x00\xff"])
def test_a_manifest_that_cannot_be_read_is_a_miss(chain: Chain, text: str) -> None:
    first = chain.run(seven())
    manifest = entry_file_of(first.archive, chain.store, "s3").parent / "manifest.json"
    manifest.write_text(text, encoding="latin-1")

    assert chain.run().executed == ["s3"]
    assert chain.run().executed == []


def test_an_entry_without_its_manifest_is_a_miss_and_is_replaced(chain: Chain) -> None:
    first = chain.run(seven())
    (entry_file_of(first.archive, chain.store, "s3").parent / "manifest.json").unlink()

    assert chain.run().executed == ["s3"]
    assert chain.run().executed == []


def test_an_entry_with_a_file_missing_is_a_miss(chain: Chain) -> None:
    first = chain.run(seven())
    entry_file_of(first.archive, chain.store, "s3").unlink()

    assert chain.run().executed == ["s3"]


@pytest.mark.parametrize("torn", [b'{"at": "2026', b'{"at": "\xe2\x88'])
def test_a_torn_last_line_of_events_is_left_out(chain: Chain, torn: bytes) -> None:
    path = chain.run(seven()).archive.folder / "events.jsonl"
    expected = list(read_events(path))
    with path.open("ab") as file:
        file.write(torn)

    assert expected == list(read_events(path))
    assert (expected[0]["event"], expected[-1]["event"]) == ("run_started", "run_finished")


@pytest.mark.parametrize("damaged", [b"no database at all, only text" * 50, b""])
def test_a_damaged_memo_costs_time_and_nothing_else(chain: Chain, damaged: bytes) -> None:
    chain.run(seven())
    for path in chain.store.glob("memo.sqlite*"):
        path.write_bytes(damaged)

    assert chain.run().executed == []


def test_a_damaged_note_of_recent_keys_costs_a_reason_and_nothing_else(chain: Chain) -> None:
    chain.run(seven())
    (chain.store / "recent" / "chain.json").write_text("{", encoding="utf-8")

    again = chain.run(seven(s7={}, s6={"add": 5}))

    assert again.executed[:1] == ["s6"]
    assert again.reasons["s6"] == "no earlier result"


def _weights(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "weights.txt").write_text(text, encoding="utf-8")
    return folder


def _reading(folder: Path, *, turn: int, through_adapter: bool) -> dict[str, Any]:
    stages: dict[str, Any] = {"base": {"uses": "chain.model", "with": {"weights": str(folder)}}}
    if through_adapter:
        stages["adapter"] = {"uses": "chain.adapter", "in": {"model": "base"}}
    stages["said"] = {
        "uses": "chain.reader",
        "in": {"model": "adapter" if through_adapter else "base"},
        "with": {"turn": turn},
    }
    return recipe(**stages)


@pytest.mark.parametrize("through_adapter", [False, True])
def test_a_model_that_points_to_changed_weights_is_made_again_from_where_they_still_are(
    chain: Chain, tmp_path: Path, through_adapter: bool
) -> None:
    old, copy = _weights(tmp_path / "old", "sound"), _weights(tmp_path / "copy", "sound")
    chain.run(_reading(old, turn=0, through_adapter=through_adapter))
    _weights(old, "other")

    ran = chain.run(_reading(copy, turn=1, through_adapter=through_adapter))

    (row,) = ran.archive.read(ran.archive.units["said"], "said", Rationale)
    assert row.text == "sound"
    assert ran.executed == ["model", "reader"]
