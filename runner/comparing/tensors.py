"""The tensors of a safetensors file as float64 arrays, read without any tensor library: the format is a JSON header and raw bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner.errors import KpodError

if TYPE_CHECKING:
    import numpy as np

_TYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1", "U8": "<u1", "BOOL": "<u1",
}  # fmt: skip


def tensors_of(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """All tensors by name.

    Raises:
        KpodError: the file is not whole, or holds numbers of a type that is not known.
    """
    data = path.read_bytes()
    try:
        size = int.from_bytes(data[:8], "little")
        header: dict[str, Any] = json.loads(data[8 : 8 + size])
        header.pop("__metadata__", None)
        return {name: _tensor(facts, data[8 + size :]) for name, facts in header.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise KpodError(f"{path} is no whole safetensors file: {error}") from error


def _tensor(facts: dict[str, Any], body: bytes) -> np.ndarray[Any, Any]:
    import numpy as np

    start, stop = facts["data_offsets"]
    raw = body[start:stop]
    if facts["dtype"] == "BF16":
        # The upper half of a float32.
        values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, _TYPES[facts["dtype"]])
    return values.astype(np.float64).reshape(facts["shape"])
