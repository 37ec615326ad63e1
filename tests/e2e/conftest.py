"""One short quickstart, shared by all tests that look at what a run leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpod.runner.archive import Archive
from tests.e2e.recipes import SHORT, run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs, with the store in it."""
    return tmp_path_factory.mktemp("quickstart") / "runs"


@pytest.fixture(scope="session")
def first(runs: Path) -> Archive:
    """The archive of the first run."""
    return run("quickstart", runs, SHORT)
