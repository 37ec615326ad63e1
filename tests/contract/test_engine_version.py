"""The engine's name stands in the key of every stored text: code that writes other texts must come under another name."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kpod.stages._lm.generation import ENGINE
from tests.contract.code import code_digest

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden" / "engine_version.json"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
FILES = (
    "stages/_lm/decoding.py",
    "stages/_lm/decoder_steps.py",
    "stages/_lm/generation.py",
    "stages/_lm/key_cache.py",
    "stages/_lm/packed_weights.py",
    "stages/_lm/ragged_attention.py",
    "stages/_lm/waiting_rows.py",
    "stages/_lm/writing_loop.py",
)
WAYS_OUT = (
    "texts change: raise ENGINE in stages/_lm/generation.py, then: pytest tests/contract --rebaseline\n"
    "texts stay byte for byte: pytest tests/contract --rebaseline"
)


def test_when_the_engines_code_moves_its_name_does_or_the_baseline(
    request: pytest.FixtureRequest,
) -> None:
    facts = {"engine": ENGINE, "files": {name: code_digest(ROOT / name) for name in FILES}}
    if request.config.getoption("--rebaseline"):
        text = json.dumps({"python": PYTHON, **facts}, indent=1, sort_keys=True)
        GOLDEN.write_text(text + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    if golden["python"] != PYTHON:
        pytest.skip(f"syntax trees of Python {golden['python']} are not those of {PYTHON}")

    told = _difference(golden, facts)
    assert not told, f"{told}\n{WAYS_OUT}"


def _difference(golden: dict[str, Any], actual: dict[str, Any]) -> str:
    if golden["engine"] != actual["engine"]:
        return f"the engine is {actual['engine']}, and {golden['engine']} is recorded"
    old, new = golden["files"], actual["files"]
    moved = [path for path in sorted({*old, *new}) if old.get(path) != new.get(path)]
    return (
        f"{actual['engine']} has other code under the same name: {', '.join(moved)}"
        if moved
        else ""
    )


def test_the_guard_of_the_engine_sees_moved_code_and_a_new_name() -> None:
    recorded = {"engine": "e/1", "files": {"a.py": "0", "b.py": "0"}}
    moved = {"engine": "e/1", "files": {"a.py": "0", "b.py": "1"}}

    assert _difference(recorded, recorded) == ""
    assert _difference(recorded, moved) == "e/1 has other code under the same name: b.py"
    assert (
        _difference(recorded, {**moved, "engine": "e/2"})
        == "the engine is e/2, and e/1 is recorded"
    )
