"""A heap that keeps what is freed, and objects that are left alone: they change nothing but time, and end with their block."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path

import pytest

from kpod.stages._lm.heap import kept_heap, old_objects_left


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def _fill_and_free() -> None:
    blocks = [bytearray(4_000_000) for _ in range(50)]
    for block in blocks:
        block[::4096] = b"x" * len(block[::4096])
    del blocks, block
    gc.collect()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_freed_memory_stays_within_the_block_and_goes_back_after_it() -> None:
    before = _resident_mb()
    with kept_heap("cpu"):
        _fill_and_free()
        kept = _resident_mb() - before
    left = _resident_mb() - before

    assert kept > 150
    assert left < 50


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's settings")
def test_a_block_within_another_does_not_end_it() -> None:
    before = _resident_mb()
    with kept_heap("cpu"):
        with kept_heap("cpu"):
            pass
        _fill_and_free()
        kept = _resident_mb() - before
    left = _resident_mb() - before

    assert kept > 150
    assert left < 50


def test_off_a_cpu_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", None)
    with kept_heap("cuda"):
        pass
    monkeypatch.setattr(sys, "platform", "darwin")
    with kept_heap("cpu"):
        pass


def test_old_objects_are_left_alone_and_garbage_of_the_block_is_found() -> None:
    class Link:
        other: Link

    def cycle() -> weakref.ref[Link]:
        link = Link()
        link.other = link
        return weakref.ref(link)

    gc.collect()
    before = cycle()
    with old_objects_left():
        assert gc.get_freeze_count() > 1000
        within = cycle()
        gc.collect()
        assert within() is None
        assert before() is not None
    assert gc.get_freeze_count() == 0
    gc.collect()
    assert before() is None
