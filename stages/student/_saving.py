"""The files of a student that was trained whole: weights, config and the base's tokenizer, the same bytes every time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

# Everything a tokenizer may be made of; copied, so that no library rewrites it.
_TOKENIZER_FILES = (
    "tokenizer*.json", "tokenizer*.model", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
    "merges.txt", "spiece.model", "sentencepiece*.model", "chat_template*",
)  # fmt: skip
# Facts about the library and the machine that made the files, not about the model.
_NOT_CONTENT = ("transformers_version", "_name_or_path")


def write_model(
    model: Any, base: Path, folder: Path, *, precision: Literal["fp32", "bf16"]
) -> None:
    """Write a whole model as transformers reads it.

    Args:
        model: the trained model; converted in place.
        base: folder of the model it began as, for its tokenizer.
        folder: where to write.
        precision: what the weights are stored in.
    """
    import torch

    from kpod.stages._lm.loading import quiet

    model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    with quiet():
        model.save_pretrained(str(folder))
    for pattern in _TOKENIZER_FILES:
        for path in base.glob(pattern):
            shutil.copyfile(path, folder / path.name)
    for name in ("config.json", "generation_config.json"):
        if (folder / name).exists():
            _rewrite(folder / name)


def _rewrite(path: Path) -> None:
    """A JSON file with sorted keys and without what is not content."""
    row = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in row.items() if name not in _NOT_CONTENT}
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
