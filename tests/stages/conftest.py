"""Fixtures that several files of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.endpoint import Endpoint


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    """A server without faults, which keeps what it was sent."""
    with Endpoint(keeps_bodies=True) as running:
        yield running
