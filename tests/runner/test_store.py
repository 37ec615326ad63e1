"""Results by key: published whole, found, replaced, removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner.manifest import Manifest, stored_output
from kpod.runner.store import Entry, Store


def publish(store: Store, key: str, text: str = "{}\n", *, pointer: str | None = None) -> Entry:
    """Store a folder `model` with one file, or an output `rows` with lines."""
    with store.drafting(key) as draft:
        if pointer is None:
            (draft / "rows.jsonl").write_text(text, encoding="utf-8")
            output = stored_output(draft, "rows", is_folder=False, num_records=1, pointer=None)
            outputs = {"rows": output}
        else:
            (draft / "model" / "sub").mkdir(parents=True)
            (draft / "model" / "sub" / "model.json").write_text(text, encoding="utf-8")
            output = stored_output(draft, "model", is_folder=True, num_records=0, pointer=pointer)
            outputs = {"model": output}
        return store.publish(draft, Manifest(key=key, preimage={"a": [1.0, None]}, outputs=outputs))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


KEY, OTHER = "a" * 64, "b" * 64


def test_a_published_result_is_found_equal(store: Store) -> None:
    entry = publish(store, KEY)

    found = store.get(KEY)

    assert found == entry
    assert list(store.keys()) == [KEY]
    assert entry.path("rows").read_text(encoding="utf-8") == "{}\n"
    assert store.get(OTHER) is None


def test_a_manifest_reads_back_equal(store: Store) -> None:
    manifest = publish(store, KEY, pointer=str(store.root)).manifest

    assert manifest == Manifest.from_json(manifest.to_json())


def test_a_draft_that_is_not_published_leaves_nothing(store: Store) -> None:
    with store.drafting(KEY) as draft:
        (draft / "rows.jsonl").touch()

    assert list((store.root / "tmp").iterdir()) == []
    assert store.get(KEY) is None


def test_the_first_of_two_equal_keys_stays(store: Store) -> None:
    first = publish(store, KEY, "1\n")

    second = publish(store, KEY, "2\n")

    assert first.manifest.outputs == second.manifest.outputs
    assert second.path("rows").read_text(encoding="utf-8") == "1\n"


def test_equal_content_has_one_digest_whatever_the_key(store: Store) -> None:
    digests = {publish(store, key).manifest.outputs["rows"].digest for key in (KEY, OTHER)}

    assert len(digests) == 1


def test_a_content_is_found_by_its_digest_also_when_the_key_that_made_it_last_is_gone(
    store: Store,
) -> None:
    digest = publish(store, KEY).manifest.outputs["rows"].digest
    publish(store, OTHER)
    assert (store.root / "outputs" / digest[:2] / digest).read_text(encoding="utf-8") == OTHER
    store.remove(OTHER)

    found = store.find_output(digest)

    assert found is not None
    assert (found[0].manifest.key, found[1]) == (KEY, "rows")
    assert store.find_output("0" * 64) is None


def test_a_folder_has_the_digest_of_its_names_and_bytes(store: Store, tmp_path: Path) -> None:
    def digest(key: str, text: str) -> str:
        return publish(store, key, text, pointer=str(tmp_path)).manifest.outputs["model"].digest

    assert digest(KEY, "1") == digest(OTHER, "1")
    assert digest("c" * 64, "2") != digest(KEY, "1")
    entry = store.get(KEY)
    assert entry is not None
    assert [file.path for file in entry.manifest.outputs["model"].files] == ["model/sub/model.json"]


def test_a_pointer_whose_target_is_gone_is_a_miss_and_is_replaced(
    store: Store, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    publish(store, KEY, pointer=str(here))
    here.rename(there)
    assert store.get(KEY) is None

    publish(store, KEY, pointer=str(there))

    found = store.get(KEY)
    assert found is not None
    assert str(there) == found.manifest.outputs["model"].pointer


def test_remove_frees_the_bytes_of_a_result_and_of_what_is_unfinished(store: Store) -> None:
    publish(store, KEY, "12345\n")
    size_b = sum(path.stat().st_size for path in store.entry_folder(KEY).iterdir())
    store.partial(KEY).mkdir(parents=True)
    (store.partial(KEY) / "half").write_text("123", encoding="utf-8")

    assert size_b + 3 == store.remove(KEY)
    assert store.remove(KEY) == 0
    assert store.get(KEY) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_publishing_takes_the_checkpoint_away(store: Store) -> None:
    store.partial(KEY).mkdir(parents=True)

    publish(store, KEY)

    assert not store.partial(KEY).exists()


def test_what_is_quarantined_is_a_miss_with_a_reason(store: Store) -> None:
    publish(store, KEY)

    store.quarantine(KEY, "a test")
    store.quarantine(KEY, "it is gone already")

    assert store.get(KEY) is None
    ((name, reason),) = store.quarantined()
    assert (name.startswith(KEY), reason) == (True, "a test")
