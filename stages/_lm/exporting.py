"""A student as files that plain transformers and peft read.

An adapter keeps its base apart: named where it comes from a hub, else copied beside it. A merged student is one folder. Both
get the tokenizer's files as they are and a generation_config.json that says greedy, as kpod evaluates.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from kpod.runner import StageError
from kpod.stages._lm.artifact import ModelFiles, ModelSpec, file_digest, read_spec
from kpod.stages._lm.checkpoint_folder import TOKENIZER_FILES
from kpod.stages._lm.completions import end_token_id
from kpod.stages._lm.loading import load_lm, load_tokenizer, read_limits
from kpod.stages._lm.prompts import Prompt
from kpod.stages._lm.saving import adapter_with_base, save_model
from kpod.stages._lm.sentencepiece_file import t5_tokenizer_of_folder

Dtype = Literal["fp32", "bf16"]
BASE_FOLDER = "base"
_GENERATION = "generation_config.json"
# What a model's own generation settings give to the export: names of tokens, nothing about sampling.
_TOKENS = ("bos_token_id", "decoder_start_token_id")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where a trained student lies.

    Args:
        student: its Model folder.
        base: the Model folder of the base that its adapter belongs to; None where it was trained whole.
        base_files: folder of that base's weights, config and tokenizer: `base` itself, or what it points to.
        base_stage: id of the stage that made the base, for messages.
    """

    student: Path
    base: Path | None = None
    base_files: Path | None = None
    base_stage: str = ""

    @cached_property
    def spec(self) -> ModelSpec:
        """Of the student."""
        return read_spec(self.student)

    @property
    def prompt(self) -> Prompt:
        """What the student was trained with."""
        assert self.spec.prompt is not None, "a student has a prompt"
        return Prompt.from_json(self.spec.prompt)

    @property
    def files(self) -> ModelFiles:
        """As `locate` gives them."""
        if self.base is None:
            return ModelFiles(self.student, None, self.spec, "")
        assert self.base_files is not None, "a base has files"
        return ModelFiles(self.base_files, self.student, self.spec, "")

    def check(self) -> None:
        """All files are there, and are what they were when the student was trained.

        Raises:
            StageError: one is gone or was changed.
        """
        again = "run the recipe again, it is made anew"
        _check_files(self.student, self.spec, what="student", what_to_do=again)
        if self.base is not None and self.base_files is not None:
            again = (
                f"put them back, or make the base again: kpod-run RECIPE --force {self.base_stage}"
            )
            what = f"base model {str(self.spec.base)[:12]} of this adapter"
            _check_files(self.base_files, read_spec(self.base), what=what, what_to_do=again)


def _check_files(folder: Path, spec: ModelSpec, *, what: str, what_to_do: str) -> None:
    wrong = [name for name, digest in spec.files.items() if not _is_same(folder / name, digest)]
    if wrong:
        raise StageError(
            f"the {what} is not what it was: {len(wrong)} of its {len(spec.files)} files are gone or were changed in"
            f" {folder}: {', '.join(sorted(wrong)[:5])}\n{what_to_do}"
        )


def _is_same(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest


def write_adapter(parts: Parts, to: Path, *, base_name: str, revision: str | None) -> None:
    """Write adapter, tokenizer and generation settings; the base too where no hub has it.

    Args:
        parts: of a student with an adapter.
        to: an existing folder.
        base_name: hub id of the base, or the folder where `to/base` will lie in the end.
        revision: the base's commit on the hub; None: it is copied.
    """
    parts.check()
    adapter_with_base(parts.student, base_name, to)
    if revision is not None:
        _rewrite(to / "adapter_config.json", {"revision": revision})
    else:
        _copy_base(parts, to / BASE_FOLDER)
    _write_tokenizer(parts, to)
    _write_generation(parts, to)


def _copy_base(parts: Parts, to: Path) -> None:
    assert parts.base is not None, "an adapter has a base"
    to.mkdir()
    for name in read_spec(parts.base).files:
        shutil.copyfile(parts.files.weights / name, to / name)


def write_merged(parts: Parts, to: Path, *, dtype: Dtype) -> None:
    """Write a whole model: an adapter added to its base in fp32 and rounded once, or the student's own files.

    Args:
        parts: of any student.
        to: an existing folder.
        dtype: what the weights are stored in.
    """
    import torch

    parts.check()
    if parts.base is None and parts.spec.precision == dtype:
        for name in parts.spec.files:
            shutil.copyfile(parts.student / name, to / name)
    else:
        model: Any = load_lm(parts.files, precision="fp32", device="cpu")
        save_model(model.to({"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]), to)
    _write_tokenizer(parts, to)
    _write_generation(parts, to)


def _write_tokenizer(parts: Parts, to: Path) -> None:
    """The tokenizer's files, byte for byte; as tokenizer.json too where plain transformers could not read them."""
    source = parts.files.weights
    for pattern in TOKENIZER_FILES:
        for path in source.glob(pattern):
            shutil.copyfile(path, to / path.name)
    if (to / "spiece.model").is_file() and not (to / "tokenizer.json").is_file():
        t5_tokenizer_of_folder(source).save_pretrained(str(to))


def _write_generation(parts: Parts, to: Path) -> None:
    """Greedy, ending where kpod ends a text: the model's own end tokens and that of the prompt's format."""
    tokenizer = load_tokenizer(parts.files)
    ends = read_limits(parts.files, tokenizer).end_ids | {end_token_id(tokenizer, parts.prompt)}
    named: dict[str, Any] = {}
    for name in ("config.json", _GENERATION):
        path = parts.files.weights / name
        if path.is_file():
            row = json.loads(path.read_text(encoding="utf-8"))
            named |= {token: row[token] for token in _TOKENS if row.get(token) is not None}
    named |= {
        "do_sample": False,
        "eos_token_id": sorted(ends),
        "pad_token_id": tokenizer.pad_token_id,
    }
    (to / _GENERATION).unlink(missing_ok=True)
    _rewrite(to / _GENERATION, named)


def _rewrite(path: Path, changes: Mapping[str, Any]) -> None:
    """A JSON file with these entries changed, keys sorted; new where it is not there."""
    row = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    text = json.dumps({**row, **changes}, ensure_ascii=False, sort_keys=True, indent=2)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
