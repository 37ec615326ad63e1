"""The base model that ships: exactly the files that recipes/quickstart_base.yaml made, small enough to ship."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kpod.runner.memo import hash_file

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "stages" / "model" / "quickstart_base"
GOLDEN = ROOT / "tests" / "golden" / "quickstart_base.json"


def test_the_shipped_base_is_the_one_that_was_measured(request: pytest.FixtureRequest) -> None:
    digests = {path.name: hash_file(path) for path in sorted(BASE.iterdir())}
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(digests, indent=1) + "\n", encoding="utf-8")

    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == digests
    assert sum(path.stat().st_size for path in BASE.iterdir()) < 1_000_000
