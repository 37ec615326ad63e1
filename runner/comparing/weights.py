"""Token weights of the same tokens: nine tenths of a line say which tokens, and are not read where both runs say the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from kpod.runner.comparing.moved import Numbers
from kpod.runner.comparing.reading import Differing

# Before the last field of a record; no text in JSON can hold it, as its quotes would be escaped.
_MARK = b',"weights":'


class SamePlaces(NamedTuple):
    """Weights of the same spans in A and B, and how many records have the same numbers, written otherwise."""

    numbers: Numbers
    num_same: int


def weights_at_same_places(lines: Differing) -> SamePlaces | None:
    """What became of the weights; None where the records of A and B are not of the same rationales and spans, one to one."""
    import orjson

    left, right = _by_head(lines.a), _by_head(lines.b)
    if left is None or right is None or left.keys() != right.keys():
        return None
    numbers, num_same = Numbers(), 0
    try:
        for head, weights in left.items():
            before, after = orjson.loads(weights), orjson.loads(right[head])
            if before == after:
                num_same += 1
            else:
                numbers.add_alike(partial(_name, head), before, after)
    except orjson.JSONDecodeError:  # another field comes after them
        return None
    return SamePlaces(numbers, num_same)


def _by_head(lines: Sequence[bytes]) -> dict[bytes, bytes] | None:
    """The list of weights by all that comes before it; None where that is not different in every line."""
    found: dict[bytes, bytes] = {}
    for line in lines:
        head, mark, rest = line.partition(_MARK)
        if not mark or not rest.endswith(b"]}"):
            return None
        found[head] = rest[:-1]
    return found if len(found) == len(lines) else None


def _name(head: bytes, at: int) -> str:
    import orjson

    row = orjson.loads(head + b"}")
    return f"{row['rationale_id']} {row['spans'][at]}"
