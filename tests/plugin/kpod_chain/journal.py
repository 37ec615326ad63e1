"""Who was executed: a line a time, in the file that KPOD_CHAIN_JOURNAL names."""

import os
from pathlib import Path


def write(line: str) -> None:
    """Append a line."""
    name = os.environ.get("KPOD_CHAIN_JOURNAL")
    if name:
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
