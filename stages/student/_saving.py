"""The files of a student that was trained whole: weights, config and the base's tokenizer, the same bytes every time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from kpod.stages._lm.checkpoint_folder import TOKENIZER_FILES
from kpod.stages._lm.saving import save_model


def write_model(
    model: Any, base: Path, folder: Path, *, precision: Literal["fp32", "bf16"]
) -> None:
    """Write a whole model as transformers reads it.

    Args:
        model: the trained model; converted in place.
        base: folder of the model it began as; its tokenizer is copied, so that no library rewrites it.
        folder: where to write.
        precision: what the weights are stored in.
    """
    import torch

    model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[precision])
    save_model(model, folder)
    for pattern in TOKENIZER_FILES:
        for path in base.glob(pattern):
            shutil.copyfile(path, folder / path.name)
