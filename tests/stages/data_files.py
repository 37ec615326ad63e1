"""Files of questions for tests, and what a stage made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kpod.stages.data import table
from tests.stages.fakes import FakeContext

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
GSM8K_ROW = {
    "question": " Weng earns $12 an hour. How much for 90 hours? ",
    "answer": "She earned 12 x 90 = $<<12*90=1080>>1,080.\n#### 1,080",
}
MCC_KD = table.Columns(question=("instruction",), answer="label")
CSQA_CHOICES = [{"label": "A", "text": "ignore"}, {"label": "B", "text": "enforce"}]


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs shared/data/{name} beside the checkout")
    return path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def ran(stage: Any, config: Any, **sources: Path) -> FakeContext[Any]:
    ctx: FakeContext[Any] = FakeContext(config=config, sources=sources)
    stage().run(ctx)
    return ctx


def sizes(ctx: FakeContext[Any]) -> tuple[int, int, int]:
    return len(ctx.rows("train")), len(ctx.rows("validation")), len(ctx.rows("test"))
