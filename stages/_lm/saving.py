"""Write a whole model as transformers' files, the same bytes from every version and every place for the same content."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# Facts about the library and the machine that made the files, not about the model.
_NOT_CONTENT = ("transformers_version", "_name_or_path")


def save_model(model: Any, folder: Path) -> None:
    """Write config.json, generation_config.json and the weights; the tokenizer is the caller's.

    Args:
        model: a transformers model, in the element type that it is to be stored in.
        folder: exists.
    """
    from kpod.stages._lm.loading import quiet

    with quiet():
        model.save_pretrained(str(folder))
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            _rewrite(folder / name)


def _rewrite(path: Path) -> None:
    """A JSON file with sorted keys and without what is not content."""
    row = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in row.items() if name not in _NOT_CONTENT}
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
