"""What a comparison reads of its runs: no content twice, and of large files only the records that it asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.record import Prediction

Row = dict[str, Any]

_MOST_SOUGHT = 64
"""Ids up to which a file is searched for each; for more of them reading all of it is faster."""


class Differing(NamedTuple):
    """The lines of two outputs without those that are in both, and how many those are."""

    a: list[bytes]
    b: list[bytes]
    num_same: int


class Reading:
    """Keeps the predictions that it read: scores, texts and flips are told from the same ones."""

    def __init__(self) -> None:
        self._predictions: dict[str, list[Row]] = {}

    def predictions(self, archive: Archive, unit: ArchivedUnit) -> list[Row]:
        """What a unit's model said; read once for all runs that hold the same bytes.

        Raises:
            KpodError: the file is gone from the archive, is not what it was, or holds other records.
        """
        digest = unit.manifest.outputs["predictions"].digest
        if digest not in self._predictions:
            next(archive.read(unit, "predictions", Prediction), None)  # refuses other records
            self._predictions[digest] = list(archive.rows(unit, "predictions"))
        return self._predictions[digest]


def differing(a: bytes, b: bytes) -> Differing:
    """Records of two outputs that are not the same bytes in both; all of them where one output holds bytes twice."""
    lines_a, lines_b = a.splitlines(), b.splitlines()
    set_a, set_b = set(lines_a), set(lines_b)
    same = set_a & set_b
    if len(set_a) < len(lines_a) or len(set_b) < len(lines_b):
        same = set()
    left, right = ([line for line in lines if line not in same] for lines in (lines_a, lines_b))
    return Differing(left, right, len(same))


def naming(content: bytes, ids: Collection[str]) -> Iterator[Row]:
    """Records in which one of these ids stands as a value; where they are many, all records.

    Args:
        content: records as JSON, one a line.
        ids: texts that JSON writes as they are.
    """
    import orjson

    if len(ids) > _MOST_SOUGHT:
        yield from map(orjson.loads, content.splitlines())
        return
    starts: set[int] = set()
    for one in ids:
        sought, place = orjson.dumps(one), -1
        while (place := content.find(sought, place + 1)) >= 0:
            starts.add(content.rfind(b"\n", 0, place) + 1)
    for start in sorted(starts):
        end = content.find(b"\n", start)
        yield orjson.loads(content[start : end if end >= 0 else None])
