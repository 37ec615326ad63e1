"""The acceptance list of the method: every statement, and every earlier mistake, is named by a test.

The numbers are those of the list that KPOD was built from: 30 statements; 17 mistakes of an earlier KPOD implementation
(8.1) and 8 of a Qwen pipeline (8.2). Statements 8 and 9 are measurements: tests/benchmarks/mask_learning.py prints them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
MEASURED = {8, 9}


@cache
def texts() -> str:
    files = sorted(path for path in TESTS.rglob("test_*.py") if path != Path(__file__).resolve())
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


@pytest.mark.parametrize("number", sorted(set(range(1, 31)) - MEASURED))
def test_every_statement_is_named_by_a_test(number: int) -> None:
    assert re.search(rf"def test_\w*statement_{number:02d}_", texts())


@pytest.mark.parametrize("number", range(1, 18))
def test_every_mistake_of_the_earlier_implementation_is_named_by_a_test(number: int) -> None:
    assert re.search(
        rf"[Mm]istake[_ ]8[._]1[._]0?{number}\b|mistakes?_8_1_(\d\d_)*0?{number}_", texts()
    )


@pytest.mark.parametrize("number", [2, 3, 4, 5, 6, 7, 8, 10, 11])
def test_every_mistake_of_the_earlier_pipeline_is_named_by_a_test(number: int) -> None:
    assert f"def test_mistake_8_2_{number:02d}_" in texts()
