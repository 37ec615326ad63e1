"""The record store: each generated text once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from kpod.runner.texts import GeneratedText, TextStore, text_key


def text(said: str) -> GeneratedText:
    return GeneratedText(text=said, finish="stop", prompt_tokens=3, completion_tokens=2)


def test_a_text_reads_back_equal_and_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "texts.sqlite")
    assert store.get(["a"]) == {}
    assert not (tmp_path / "texts.sqlite").exists()

    store.put({"a": text("x\n🙂\0")}, provenance={"batch": 1})

    assert {"a": text("x\n🙂\0")} == store.get(["b", "a", "a"])
    assert store.count() == 1


def test_the_first_text_of_a_key_stays(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "texts.sqlite")
    store.put({"a": text("first")}, provenance={})
    store.put({"a": text("second"), "b": text("other")}, provenance={})

    assert (store.get(["a"])["a"].text, store.count()) == ("first", 2)


def test_texts_outlive_the_process_that_wrote_them(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "texts.sqlite")
    store.put({"a": text("x")}, provenance={})
    store.close()

    assert {"a": text("x")} == TextStore(tmp_path / "texts.sqlite").get(["a"])
    assert {"a": text("x")} == store.get(["a"])


def test_many_keys_are_asked_for_at_once(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "texts.sqlite")
    keys = [text_key({"n": number}) for number in range(40_000)]
    store.put({key: text("x") for key in keys[:100]}, provenance={})

    assert set(keys[:100]) == set(store.get(keys))


def test_a_batch_that_fails_is_not_stored_in_part(tmp_path: Path) -> None:
    store = TextStore(tmp_path / "texts.sqlite")
    store.put({"a": text("x")}, provenance={})

    with pytest.raises(AttributeError):
        store.put({"b": text("y"), "c": None}, provenance={})  # type: ignore[dict-item]
    store.put({"d": text("z")}, provenance={})

    assert {"a", "d"} == set(store.get(["a", "b", "c", "d"]))


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "texts.sqlite"
    code = (
        "import sys; from pathlib import Path; from kpod.runner.texts import GeneratedText, TextStore\n"
        "store = TextStore(Path(sys.argv[1]))\n"
        "for n in range(50):\n"
        "    made = GeneratedText(text=sys.argv[2], finish='stop', prompt_tokens=1, completion_tokens=1)\n"
        "    store.put({f'{n}': made, f'{sys.argv[2]}{n}': made}, provenance={})\n"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(path), name], stderr=subprocess.PIPE)
        for name in "xy"
    ]
    said = [process.communicate()[1] for process in both]

    assert said == [b"", b""]
    store = TextStore(path)
    assert store.count() == 150
    assert {"x", "y"} >= {found.text for found in store.get(map(str, range(50))).values()}
    assert sqlite3.connect(path).execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_key_knows_types_and_no_order() -> None:
    assert text_key({"a": 1, "b": [1, 2]}) == text_key({"b": [1, 2], "a": 1})
    assert len({text_key({"a": value}) for value in (1, 1.0, "1", True)}) == 4
