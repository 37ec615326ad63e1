"""Training sequences in a file, read one at a time by index: memory holds eight bytes of each, however long it is.

A record is a row of int32 (counts, prompt, completion, spans, first targets), then float64 weights, parts and ids as bytes.
It is read with `pread`, not mapped, so that pages of the file are the system's to keep and never count as the process's own.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Final, overload

from kpod.stages._lm.completions import Completion, Part
from kpod.stages._lm.encoding import Example

_PARTS: Final[tuple[Part, ...]] = ("rationale", "answer", "template", "end")
_CODES = {part: code for code, part in enumerate(_PARTS)}
# Prompt tokens, completion tokens, weights, epochs with a first target, bytes of the example's and the question's id.
_COUNTS = struct.Struct("6i")
_NUM_COUNTS = 6
_INT_B = 4
_NOWHERE = -1


class ExampleFile(Sequence[Example]):
    """Examples on disk: `file[index]` is equal to the example that was written, field by field.

    The file has no name, so nothing is left behind by a kill; it is gone with this object.

    Args:
        examples: in order; read once, and none of them kept.
        folder: on the disk that is to hold them.
    """

    def __init__(self, examples: Iterable[Example], *, folder: Path) -> None:
        file = tempfile.TemporaryFile(prefix="examples-", dir=folder)  # noqa: SIM115 - lives as long as this object
        weakref.finalize(self, file.close)
        self._number = file.fileno()
        self._places = array("q", [0])
        for example in examples:
            self._places.append(self._places[-1] + file.write(_packed(example)))
        file.flush()

    def __len__(self) -> int:
        return len(self._places) - 1

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        start, stop = self._place(index)
        return _unpacked(os.pread(self._number, stop - start, start))

    def num_targets(self, index: int, epoch: int) -> int:
        """As `self[index].num_targets(epoch)`, without the rest of it."""
        start, _ = self._place(index)
        counts = _COUNTS.unpack(os.pread(self._number, _COUNTS.size, start))
        num_prompt, num_tokens, num_firsts = int(counts[0]), int(counts[1]), int(counts[3])
        if epoch > num_firsts:
            return num_tokens
        at = _NUM_COUNTS + num_prompt + 3 * num_tokens + epoch - 1
        first = os.pread(self._number, _INT_B, start + at * _INT_B)
        return num_tokens - int.from_bytes(first, sys.byteorder)

    def _place(self, index: int) -> tuple[int, int]:
        """Where a record begins and ends."""
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        return self._places[at], self._places[at + 1]


def _packed(example: Example) -> bytes:
    """The example as a record."""
    completion, weights = example.completion, example.weights
    # Most trainings weigh every token 1: that is said by no weights at all.
    stored = weights if any(weight != 1.0 for weight in weights) else ()
    names = example.example_id.encode(), example.question_id.encode()
    spans = [(_NOWHERE, _NOWHERE) if span is None else span for span in completion.spans]
    ints = chain(
        (len(example.prompt_ids), len(completion.ids), len(stored), len(example.first_targets), *map(len, names)),
        example.prompt_ids, completion.ids, (start for start, _ in spans), (end for _, end in spans),
        example.first_targets,
    )  # fmt: skip
    return b"".join(
        (
            array("i", ints).tobytes(),
            array("d", stored).tobytes(),
            bytes([_CODES[part] for part in completion.parts]),
            *names,
        )
    )


def _unpacked(record: bytes) -> Example:
    """The example that was packed."""
    num_prompt, num_tokens, num_weights, num_firsts, id_b, question_b = _COUNTS.unpack_from(record)
    prompt = _NUM_COUNTS + num_prompt
    ids, starts, ends = (prompt + num_tokens * which for which in (1, 2, 3))
    ints_b = (ends + num_firsts) * _INT_B
    weights_b = ints_b + num_weights * 8
    parts_b = weights_b + num_tokens
    view = memoryview(record)
    ints = view[:ints_b].cast("i").tolist()
    return Example(
        example_id=record[parts_b : parts_b + id_b].decode(),
        question_id=record[parts_b + id_b : parts_b + id_b + question_b].decode(),
        prompt_ids=tuple(ints[_NUM_COUNTS:prompt]),
        completion=Completion(
            ids=tuple(ints[prompt:ids]),
            parts=tuple([_PARTS[code] for code in record[weights_b:parts_b]]),
            spans=tuple(
                [
                    None if start < 0 else (start, end)
                    for start, end in zip(ints[ids:starts], ints[starts:ends], strict=True)
                ]
            ),
        ),
        weights=tuple(view[ints_b:weights_b].cast("d")) if num_weights else (1.0,) * num_tokens,
        first_targets=tuple(ints[ends:]),
    )
