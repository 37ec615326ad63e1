"""What a Model output holds: a folder with `model.json`, beside it the files of the weights or of an adapter.

A pointer holds only `model.json`: the files lie where the runner was told (`ctx.point`), and their digests stand in the
spec, so that a model has the same content on every machine, wherever its files lie. An adapter names its base by content.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kpod.runner import StageError

if TYPE_CHECKING:
    from kpod.runner import Context, Input, Model

SPEC_NAME = "model.json"
FORMAT = 1
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What `model.json` says about a model.

    Args:
        architecture: transformers' name of the class, e.g. "Qwen3ForCausalLM".
        width: hidden size.
        num_parameters: of the model the folder stands for; for an adapter, those of its base.
        vocab_size: rows of the embedding, which may be more than the tokenizer has.
        precision: what the weights are stored in.
        files: sha256 of every file of weights, config and tokenizer, by name relative to their folder.
        is_pointer: whether the files lie elsewhere (`ctx.pointed`).
        base: content digest of the Model that this adapter belongs to; None where this is no adapter.
        prompt: the prompt it was trained with, as JSON; None where it has none.
        trained_by: facts for the reader: stage, steps, …
        format: version of this file.
    """

    architecture: str
    width: int
    num_parameters: int
    vocab_size: int
    precision: Precision
    files: Mapping[str, str]
    is_pointer: bool = False
    base: str | None = None
    prompt: Mapping[str, Any] | None = None
    trained_by: Mapping[str, Any] | None = None
    format: int = FORMAT


class ModelFiles(NamedTuple):
    """Where the files of a Model input lie.

    Args:
        weights: folder with config.json, *.safetensors and the tokenizer.
        adapter: folder with the adapter to apply on top, or None.
        spec: of the input itself (for an adapter: the adapter's).
        digest: content digest of the input: the model's name in records.
    """

    weights: Path
    adapter: Path | None
    spec: ModelSpec
    digest: str


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """sha256 of these files of a folder, by name."""
    return {name: file_digest(folder / name) for name in sorted(names)}


def folder_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file in a folder but `model.json`, by name relative to it: for models a stage has written."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return file_digests(folder, (name for name in names if name != SPEC_NAME))


def write_spec(folder: Path, spec: ModelSpec) -> None:
    """Write `model.json`: sorted keys, one newline at the end."""
    text = json.dumps(asdict(spec), ensure_ascii=False, sort_keys=True, indent=2)
    (folder / SPEC_NAME).write_text(text + "\n", encoding="utf-8", newline="\n")


def read_spec(folder: Path) -> ModelSpec:
    """The spec of a Model folder.

    Raises:
        StageError: there is none, it is not a spec, or a newer kpod wrote it.
    """
    path = folder / SPEC_NAME
    if not path.is_file():
        raise StageError(
            f"{folder}: no {SPEC_NAME} in it, so it is no model that a stage of kpod has made\n"
            "take a folder of transformers files in with model.pretrained"
        )
    row = read_json_object(path)
    if row.get("format") != FORMAT:
        raise StageError(
            f"{path}: its format is {row.get('format')!r}; this kpod reads format {FORMAT}\n"
            "use the kpod that wrote it, or make the model again"
        )
    known = {field.name for field in fields(ModelSpec)}
    required = {"architecture", "width", "num_parameters", "vocab_size", "precision", "files"}
    wrong = sorted((row.keys() - known) | (required - row.keys()))
    if wrong:
        raise StageError(
            f"{path}: unknown or missing entries: {', '.join(wrong)}\n"
            "the file was changed by hand; make the model again"
        )
    return ModelSpec(**row)


def spec_line(spec: ModelSpec) -> str:
    """A model in one line, for the run's output: `Qwen3ForCausalLM, 0.24 M parameters, bf16`."""
    return f"{spec.architecture}, {spec.num_parameters / 1e6:,.2f} M parameters, {spec.precision}"


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        StageError: the file is not JSON, or JSON of another kind.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StageError(f"{path}: not JSON ({error}); fetch or make the file again") from error
    if not isinstance(row, dict):
        raise StageError(f"{path}: holds {type(row).__name__}, where a JSON object is needed")
    return row


def locate(ctx: Context[Any], source: Input[Model]) -> ModelFiles:
    """Where the files of a Model input lie; an adapter's base is found by its content.

    Raises:
        StageError: files are missing, or the base of an adapter is an adapter itself.
    """
    folder = ctx.path(source)
    spec = read_spec(folder)
    digest = ctx.digest(source)
    if spec.base is None:
        return ModelFiles(_weights_folder(ctx, folder, spec), None, spec, digest)
    base_folder = ctx.artifact(spec.base)
    base_spec = read_spec(base_folder)
    if base_spec.base is not None:
        raise StageError(
            f"{folder}: an adapter of an adapter; kpod applies one adapter to a whole model\n"
            "train the first student whole, so that the second can adapt it"
        )
    _check_present(folder, spec)
    return ModelFiles(_weights_folder(ctx, base_folder, base_spec), folder, spec, digest)


def _weights_folder(ctx: Context[Any], folder: Path, spec: ModelSpec) -> Path:
    """The folder with the weights of a model that is no adapter."""
    target = ctx.pointed(folder) if spec.is_pointer else folder
    if target is None:
        raise StageError(
            f"{folder}: a pointer to a model's files, but nobody knows where they lie\n"
            "run the stage that made it again: kpod-run RECIPE --force ID"
        )
    _check_present(target, spec)
    return target


def _check_present(folder: Path, spec: ModelSpec) -> None:
    """Every file that the spec names is there (its bytes are the runner's to check)."""
    missing = sorted(name for name in spec.files if not (folder / name).is_file())
    if missing:
        raise StageError(
            f"{folder}: {len(missing)} of {len(spec.files)} files of the model are gone: {', '.join(missing[:5])}\n"
            "put them back, or run the stage that made the model again: kpod-run RECIPE --force ID"
        )
