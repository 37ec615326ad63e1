"""Where a published data set is read from: the hub, a folder in the set's own format, or files named one by one.

A hub repository is a local snapshot by the time a stage runs; its tables are read as any other file, and scripts never.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner import (
    Doc,
    Ge,
    HubRepository,
    LocalFile,
    LocalPath,
    Lt,
    Question,
    SettingError,
    StageError,
)
from kpod.stages._lm.rows import is_table, read_rows
from kpod.stages.data._splits import NO_LIMIT, Limit, Part, Placed, Split, held_out

if TYPE_CHECKING:
    from kpod.runner import Context, Source

_SHARD = r"-\d{5}-of-\d{5}(-[0-9a-f]+)?"
_SPLITS: tuple[Split, ...] = ("train", "validation", "test")
_PRECEDENCE: tuple[Split, ...] = ("test", "validation", "train")
WORDS: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedConfig:
    """The settings that published data sets share."""

    name: Annotated[str, Doc("Data set on the Hugging Face hub; unused where files are named.")]
    revision: Annotated[str | None, Doc("Branch, tag or commit on the hub; null: the newest.")] = (
        None
    )
    path: Annotated[
        str | None, Doc("A folder with the set in its own format, instead of the hub."), LocalPath()
    ] = None
    train: Annotated[str | None, Doc("A file of training questions."), LocalPath()] = None
    validation: Annotated[str | None, Doc("A file of validation questions."), LocalPath()] = None
    test: Annotated[str | None, Doc("A file of test questions."), LocalPath()] = None
    validation_frac: Annotated[
        float,
        Doc("Share of train held out, by hash of the question id, where there is no validation."),
        Ge(0),
        Lt(1),
    ] = 0.1
    limit: Annotated[Limit, Doc("Questions to keep of each split.")] = NO_LIMIT

    def __post_init__(self) -> None:
        named = [split for split in _SPLITS if getattr(self, split) is not None]
        if self.path is not None and named:
            raise SettingError(
                named[0],
                "the files come from 'path' already",
                hint="name a folder or files, not both",
            )
        if self.revision is not None and (self.path is not None or named):
            raise SettingError(
                "revision", "only the hub has revisions", hint="leave it out where files are named"
            )


def published_sources(config: PublishedConfig, *, expects: str) -> dict[str, Source]:
    """What is read, by the setting that names it.

    Args:
        config: names files, a folder or a hub repository.
        expects: which files and rows the stage reads, for who named a file that is not there.
    """
    advice = (
        f"{expects}; without path, train, validation and test it reads {config.name} from the hub"
    )
    files = named_files(config)
    if files:
        return {str(split): LocalFile(path, advice) for split, path in files.items()}
    if config.path is not None:
        return {"path": LocalFile(config.path, advice)}
    return {"name": HubRepository(config.name, "dataset", config.revision)}


def named_files(config: Any) -> dict[Split, str]:
    """The paths of the files that the settings `train`, `validation` and `test` name."""
    names = {field.name for field in fields(config)}
    paths = {split: getattr(config, split) for split in _SPLITS if split in names}
    return {split: path for split, path in paths.items() if path is not None}


def published_files(
    ctx: Context[Any],
    config: PublishedConfig,
    *,
    words: Mapping[Split, Sequence[str]] = WORDS,
    subset: str | None = None,
) -> dict[Split, list[Path]]:
    """The files of each split that has any."""
    named = named_files(config)
    if named:
        return {split: [ctx.source(split)] for split in named}
    folder = ctx.source("name" if config.path is None else "path")
    return folder_files(folder, words=words, subset=subset)


def folder_files(
    folder: Path, *, words: Mapping[Split, Sequence[str]] = WORDS, subset: str | None = None
) -> dict[Split, list[Path]]:
    """The files of each split in a folder, by name: `train.jsonl`, `train-00000-of-00002.parquet`, `train_rand.jsonl`.

    Args:
        folder: a folder, or a snapshot of a hub repository; `data` in it is looked into as well.
        words: names that each split goes by, the best first.
        subset: a folder in it that is looked into first.

    Raises:
        StageError: there is no such folder, no split in it, or two files that could each be one.
    """
    if not folder.is_dir():
        raise StageError(
            f"{folder}: not a folder\n  allowed: a folder with files such as train.jsonl\n"
            "  name single files with the settings 'train', 'validation' and 'test'"
        )
    found = {split: _split_files(folder, words[split], subset) for split in _SPLITS}
    if not found["train"] and not found["test"]:
        names = sorted(
            str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
        )
        raise StageError(
            f"{folder}: no file of train or test; got {', '.join(names[:12]) or 'an empty folder'}\n"
            f"  allowed: {' or '.join((*words['train'], *words['test']))}, as .jsonl, .json, .csv or .parquet\n"
            "  check the path, or name the files with the settings 'train' and 'test'"
        )
    return {split: files for split, files in found.items() if files}


def _split_files(folder: Path, words: Sequence[str], subset: str | None) -> list[Path]:
    places = [folder / subset] if subset else []
    for place in [*places, folder, folder / "data"]:
        tables = sorted(path for path in place.glob("*") if path.is_file() and is_table(path))
        for word in words:
            for pattern in (word, word + _SHARD):
                whole = [path for path in tables if re.fullmatch(pattern, path.stem)]
                if whole:
                    return [path for path in whole if path.suffix == whole[0].suffix]
            like = [path for path in tables if re.match(rf"{word}[-_.]", path.stem)]
            if len(like) > 1:
                raise StageError(
                    f"{place}: got several files that could be {word}: {', '.join(path.name for path in like)}\n"
                    f"  allowed: {word}.jsonl, or one file whose name begins with {word}\n"
                    "  name the files with the settings 'train', 'validation' and 'test'"
                )
            if like:
                return like
    return []


def file_parts(
    files: Mapping[Split, Sequence[Path]],
    parse: Callable[[Mapping[str, Any], str], Question],
    *,
    validation_frac: float,
) -> list[Part]:
    """The parts to publish, test first; validation is held out of train where it has no file.

    Args:
        files: the files of each split.
        parse: makes the question of a row, given its place.
        validation_frac: share of train to hold out, in [0, 1).
    """
    share = 0.0 if "validation" in files else validation_frac
    return [
        Part(
            read=_reader(files[split], parse, must_have_rows=split == "train"),
            split_of=held_out(share) if split == "train" else _always(split),
        )
        for split in _PRECEDENCE
        if split in files
    ]


def _always(split: Split) -> Callable[[str], Split]:
    return lambda question_id: split  # noqa: ARG005 - whatever the id


def _reader(
    paths: Sequence[Path],
    parse: Callable[[Mapping[str, Any], str], Question],
    *,
    must_have_rows: bool,
) -> Callable[[], Iterator[Placed]]:
    def read() -> Iterator[Placed]:
        number = 0
        for path in paths:
            for number, row in read_rows(path):
                where = f"{path}:{number}"
                yield Placed(where, parse(row, where))
        if not number and must_have_rows:
            raise StageError(
                f"{paths[0]}: empty data set: the file holds no rows\n"
                "  allowed: at least one row of train\n  check the file, or leave it out"
            )

    return read
