"""All that a stage may touch while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from kpod.runner.record import Model, Record

if TYPE_CHECKING:
    from kpod.runner.budget import Budget
    from kpod.runner.ledger import Ledger
    from kpod.runner.recipe import Placement
    from kpod.runner.stage import Input, Output
    from kpod.runner.texts import TextStore

ConfigT_co = TypeVar("ConfigT_co", covariant=True)
RecordT = TypeVar("RecordT", bound=Record)
RecordT_contra = TypeVar("RecordT_contra", bound=Record, contravariant=True)


class Writer(Protocol[RecordT_contra]):
    """Takes the records of one output, in the order they will be read."""

    def add(self, record: RecordT_contra) -> None:
        """Append one record."""


class Context(Protocol[ConfigT_co]):
    """What a stage is given. `runner/execute.py` makes the real one; a test may make its own.

    Attributes:
        config: the settings, `auto` resolved.
        seed: the seed of this stage; 0 where it has none.
        checkpoint: a folder that outlives an interruption and is gone once the stage is published.
        logs: a folder beside the archive for what other programs read (trackers); no output, and never part of the content.
        records: generated texts, each stored once, shared by teachers and evaluation.
        ledger: what is asked of endpoints, under the names of this run and this unit.
        budget: what this command may still spend.
        retry_refused: whether texts that were refused are asked for again (`--retry refused`).
        placement: device and threads; cannot change the output beyond float noise and is never keyed.
    """

    @property
    def config(self) -> ConfigT_co:
        """The settings, `auto` resolved."""

    @property
    def seed(self) -> int:
        """The seed of this stage."""

    @property
    def checkpoint(self) -> Path:
        """A folder that outlives an interruption."""

    @property
    def logs(self) -> Path:
        """A folder beside the archive, for trackers."""

    @property
    def records(self) -> TextStore:
        """Generated texts."""

    @property
    def ledger(self) -> Ledger:
        """What is asked of endpoints."""

    @property
    def budget(self) -> Budget:
        """What this command may still spend."""

    @property
    def retry_refused(self) -> bool:
        """Whether refused texts are asked for again: pass it as `but_refused` to `records.get` and `records.claim`."""

    @property
    def placement(self) -> Placement:
        """Device and threads."""

    @property
    def should_stop(self) -> bool:
        """Whether the run was asked to stop: save a checkpoint, then call `progress`, which raises Interrupted."""

    def read(self, source: Input[RecordT]) -> Iterator[RecordT]:
        """The records of an input, streamed; nothing where an optional input is not wired."""

    def is_wired(self, source: Input[RecordT]) -> bool:
        """Whether the recipe wired this optional input."""

    def digest(self, source: Input[RecordT]) -> str:
        """Content digest of an input (of all its sources together)."""

    def path(self, source: Input[Model]) -> Path:
        """The folder of a Model input."""

    def artifact(self, digest: str) -> Path:
        """The folder of another stage's output, by content digest (the base of an adapter)."""

    def pointed(self, folder: Path) -> Path | None:
        """Where the weights lie that a Model folder only points to; None where it holds them itself."""

    def source(self, setting: str) -> Path:
        """Where the file, folder or hub snapshot lies that `Stage.sources` names for a setting."""

    def write(self, output: Output[RecordT]) -> AbstractContextManager[Writer[RecordT]]:
        """Open an output for records."""

    def folder(self, output: Output[Model]) -> AbstractContextManager[Path]:
        """Open an output that is a folder."""

    def point(self, output: Output[Model], target: Path) -> None:
        """Say that a Model output's weights stay at `target`; their digests stand in its model.json."""

    def refer(self, digest: str) -> None:
        """Say that this stage's outputs need the output with that digest (an adapter its base)."""

    def progress(self, done: float, total: float, *, unit: str = "", **facts: float) -> None:
        """Tell how far the stage is; raises Interrupted when the run was asked to stop."""

    def note(self, key: str, value: object) -> None:
        """Keep a fact beside the outputs: it is archived and reported, and never part of the content."""
