"""Write a whole model as transformers' files, the same bytes from every version and every place for the same content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

# Facts about the library and the machine that made the files, not about the model.
_NOT_CONTENT = ("transformers_version", "_name_or_path")
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = "adapter_model.safetensors"


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


def adapter_with_base(adapter: Path, base: str, to: Path) -> None:
    """Copy an adapter and name its base, so that `peft.AutoPeftModelForCausalLM.from_pretrained(to)` finds it.

    Args:
        adapter: folder with adapter_config.json and adapter_model.safetensors, which name no base: a path is no content.
        base: folder or hub id of the base.
        to: an existing folder; files of these names are replaced.
    """
    shutil.copyfile(adapter / _ADAPTER_WEIGHTS, to / _ADAPTER_WEIGHTS)
    row = json.loads((adapter / _ADAPTER_CONFIG).read_text(encoding="utf-8"))
    text = json.dumps({**row, "base_model_name_or_path": base}, sort_keys=True, indent=2)
    (to / _ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8", newline="\n")
