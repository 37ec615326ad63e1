"""Whether a run made again came out the same: a verdict for every output, and the first thing that differs.

bit-identical: the same bytes. numerically equal: the same but for floats that agree within a tolerance. diverged: anything
else. replayed: answers of an endpoint, taken from the archive instead of being asked for again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from kpod.runner.archive import Archive
from kpod.runner.comparing.tensors import tensors_of
from kpod.runner.errors import KpodError
from kpod.runner.registry import find_stage
from kpod.runner.stage import Stage

Verdict = Literal["bit-identical", "numerically equal", "replayed", "diverged"]

RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""Floats agree that differ by no more: float32 sums in another order stay well inside (PRACTICE 1, row 10: 1e-6 padded against alone)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What became of one output.

    Args:
        unit, output: its name.
        verdict: see the module.
        largest: difference between floats that was found, relative to the larger one; 0 where the bytes are the same.
        first: where they differ: the record or tensor, its field, and both values; "" where they do not.
    """

    unit: str
    output: str
    verdict: Verdict
    largest: float = 0.0
    first: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


class _DivergedError(Exception):
    """Two outputs are not the same; the text says where."""


def verify(
    before: Archive, after: Archive, *, replayed: frozenset[str] = frozenset()
) -> list[Verification]:
    """A verdict for every output of a run, in the order of the graph.

    Args:
        before: the run.
        after: the same, made again.
        replayed: units whose outputs were taken from the archive.
    """
    found: list[Verification] = []
    aliases: dict[str, str] = {}
    for name, unit in before.units.items():
        for output in unit.manifest.outputs:
            if name in replayed:
                found.append(Verification(unit=name, output=output, verdict="replayed"))
                continue
            verification = _verify(before, after, name, output, aliases)
            found.append(verification)
            if verification.verdict == "numerically equal":
                old = unit.manifest.outputs[output].digest
                aliases[old] = after.units[name].manifest.outputs[output].digest
    return found


def determinism_of(uses: str) -> str:
    """What a stage made again may differ by, as it declares; "unknown" where it is not installed."""
    try:
        found = find_stage(uses)
    except KpodError:
        return "unknown"
    return found.determinism if issubclass(found, Stage) else "unknown"


def _verify(
    before: Archive, after: Archive, name: str, output: str, aliases: Mapping[str, str]
) -> Verification:
    old, new = before.units[name], after.units.get(name)
    if new is None or output not in new.manifest.outputs:
        return Verification(
            unit=name, output=output, verdict="diverged", first="it was not made again"
        )
    stored, made = old.manifest.outputs[output], new.manifest.outputs[output]
    if stored.pointed_digest != made.pointed_digest:
        said = f"it points to other files now: {stored.pointer} -> {made.pointer}"
        return Verification(unit=name, output=output, verdict="diverged", first=said)
    if stored.digest == made.digest:
        return Verification(unit=name, output=output, verdict="bit-identical")
    sides = (before.output_path(old, output), after.output_path(new, output))
    is_folder = old.manifest.outputs[output].num_records is None
    verdict, largest, first = compared(*sides, is_folder=is_folder, aliases=aliases)
    return Verification(unit=name, output=output, verdict=verdict, largest=largest, first=first)


def compared(
    old: Path, new: Path, *, is_folder: bool, aliases: Mapping[str, str] | None = None
) -> tuple[Verdict, float, str]:
    """A verdict on two makings of one output, the largest relative difference of floats, and where they differ.

    Args:
        old: a file of records, or a folder.
        new: the same, made again.
        is_folder: which.
        aliases: digests that stand for one another, because what they name is numerically equal.
    """
    gone = next((path for path in (old, new) if not path.exists()), None)
    if gone is not None:
        return (
            "diverged",
            0.0,
            f"their digests differ, and what in them cannot be told: {gone} is gone",
        )
    differ = _folder_differences if is_folder else _record_differences
    try:
        largest = max(differ(old, new, aliases or {}), default=0.0)
    except (_DivergedError, KpodError) as diverged:
        return "diverged", 0.0, str(diverged)
    is_same = not is_folder and old.read_bytes() == new.read_bytes()
    return "bit-identical" if is_same else "numerically equal", largest, ""


def _record_differences(old: Path, new: Path, aliases: Mapping[str, str]) -> Iterator[float]:
    """Relative differences between floats; raises _DivergedError at the first thing that is not the same."""
    for number, (left, right) in enumerate(zip_longest(_rows(old), _rows(new)), 1):
        if left is None or right is None:
            side = "the new" if left is None else "the archived"
            raise _DivergedError(f"record {number} is only in {side} run")
        names = (str(left[key]) for key in ("id", "rationale_id", "question_id") if key in left)
        place = f"record {number} {next(names, '')}".rstrip()
        yield from _value_differences(left, right, place, aliases)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    import orjson

    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = orjson.loads(line)
            except ValueError:
                raise _DivergedError(f"record {number} of {path} is no JSON") from None
            yield row


def _folder_differences(left: Path, right: Path, aliases: Mapping[str, str]) -> Iterator[float]:
    names = sorted(
        {path.relative_to(folder).as_posix() for folder in (left, right) for path in folder.rglob("*") if path.is_file()}
    )  # fmt: skip
    for name in names:
        one, other = left / name, right / name
        if not one.exists() or not other.exists():
            raise _DivergedError(
                f"{name} is only in {'the new' if other.exists() else 'the archived'} run"
            )
        if one.read_bytes() == other.read_bytes():
            continue
        if name.endswith(".safetensors"):
            yield from _tensor_differences(one, other, name)
        elif name == "model.json":
            # It names the files by their digests, which differ as soon as a float does.
            texts = [_object(path) for path in (one, other)]
            for text in texts:
                text.pop("files", None)
            yield from _value_differences(texts[0], texts[1], name, aliases)
        else:
            raise _DivergedError(f"{name}: other bytes")


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise _DivergedError(f"{path} is no JSON object")
    return found


def _tensor_differences(left: Path, right: Path, name: str) -> Iterator[float]:
    import numpy as np

    one, other = tensors_of(left), tensors_of(right)
    if one.keys() != other.keys():
        raise _DivergedError(
            f"{name}: other tensors: {', '.join(sorted(one.keys() ^ other.keys())[:3])}"
        )
    for tensor, before in one.items():
        after = other[tensor]
        if before.shape != after.shape:
            raise _DivergedError(f"{name}, {tensor}: shape {before.shape} -> {after.shape}")
        gap = np.abs(after - before)
        size = np.maximum(np.abs(before), np.abs(after))
        if not bool((gap <= ABSOLUTE + RELATIVE * size).all()):
            place = np.unravel_index(int((gap - RELATIVE * size).argmax()), gap.shape)
            raise _DivergedError(
                f"{name}, {tensor}{list(map(int, place))}: {before[place]:.8g} -> {after[place]:.8g}"
            )
        yield float((gap / np.maximum(size, ABSOLUTE)).max(initial=0.0))


def _value_differences(
    left: Any, right: Any, place: str, aliases: Mapping[str, str]
) -> Iterator[float]:
    if isinstance(left, dict) and isinstance(right, dict):
        for name in dict.fromkeys([*left, *right]):
            yield from _value_differences(
                left.get(name), right.get(name), f"{place}, {name}", aliases
            )
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for number, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _value_differences(one, other, f"{place}[{number}]", aliases)
    elif isinstance(left, float) and isinstance(right, float):
        if not math.isclose(left, right, rel_tol=RELATIVE, abs_tol=ABSOLUTE):
            raise _DivergedError(f"{place}: {left!r} -> {right!r}")
        yield abs(left - right) / max(abs(left), abs(right), ABSOLUTE)
    elif left != right and not _is_alias(left, right, aliases):
        before, after = _where_they_part(left, right)
        raise _DivergedError(f"{place}: {before} -> {after}")


def _is_alias(left: Any, right: Any, aliases: Mapping[str, str]) -> bool:
    """Whether both are the content ids of an output that is numerically equal."""
    if not (isinstance(left, str) and isinstance(right, str) and len(left) >= 12):
        return False
    return any(old.startswith(left) and new.startswith(right) for old, new in aliases.items())


def _where_they_part(left: Any, right: Any, *, most: int = 80) -> tuple[str, str]:
    """Both values as JSON, cut to where they begin to differ: two long texts mostly begin alike."""
    texts = [json.dumps(value, ensure_ascii=False) for value in (left, right)]
    pairs = enumerate(zip(*texts, strict=False))
    alike = next((place for place, (one, other) in pairs if one != other), min(map(len, texts)))
    start = max(0, alike - most // 2) if max(map(len, texts)) > most else 0
    before, after = (
        f"{'…' if start else ''}{text[start : start + most]}{'…' if len(text) > start + most else ''}"
        for text in texts
    )
    return before, after
