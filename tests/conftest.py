"""What all tests share: the test plug-in, the profiles of hypothesis, and the two options that rewrite golden files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "plugin"))

from tests.chain import Chain

settings.register_profile(
    "ci",
    max_examples=200,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("nightly", settings.get_profile("ci"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that rewrite what tests compare with; the diff is reviewed."""
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden texts")
    parser.addoption(
        "--rebaseline",
        action="store_true",
        help="accept the stages' code as giving the same results under the same versions",
    )


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that whoever starts the tests has set for kpod of their own, or that a launcher set."""
    for name in ("KPOD_STORE", "KPOD_RUNS", "COLUMNS", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """A folder in which recipes of the test plug-in run and every execution is counted."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    journal = tmp_path / "journal.txt"
    monkeypatch.setenv("KPOD_CHAIN_JOURNAL", str(journal))
    return Chain(folder=tmp_path, journal=journal)
