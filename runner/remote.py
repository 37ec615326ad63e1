"""A stage's Context in another process: what it is given there, as one JSON file, and what comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kpod.runner.canonical import pretty_json
from kpod.runner.config import build_config, config_to_json
from kpod.runner.events import Events, Listener
from kpod.runner.interrupt import StopRequest
from kpod.runner.manifest import StoredOutput, outputs_of_rows
from kpod.runner.outside import Found, Outside
from kpod.runner.plan import Content, Unit
from kpod.runner.recipe import Placement, RecipeStage
from kpod.runner.registry import find_stage
from kpod.runner.running import Running
from kpod.runner.stage import Stage
from kpod.runner.store import Store

if TYPE_CHECKING:
    from kpod.runner.liveness import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A stage that is to be run, as another process on the same file system can be told.

    Args:
        unit, uses, config, seed, key, run_name, retry_refused: as the Context has them.
        inputs: of every input, the (key, output, unit) of its contents.
        sources: (fact, path, original) by setting.
        store, draft: folders.
        placement: of the stage.
        offline: whether the hub may not be asked.
        folder: where the processes leave their own logs and results.
        logs: what the stage leaves for other programs to read (trackers), beside the archive.
        parent: who waits for them; None where nobody does that they should outlive.
    """

    unit: str
    uses: str
    config: dict[str, Any]
    seed: int
    key: str
    run_name: str
    retry_refused: bool
    inputs: dict[str, list[list[str]]]
    sources: dict[str, list[Any]]
    store: str
    draft: str
    placement: dict[str, Any]
    offline: bool
    folder: str
    logs: str
    parent: Process | None = None

    def to_json(self) -> str:
        """As text."""
        return pretty_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Task:
        """Parse `to_json`."""
        from kpod.runner.liveness import Process

        row = json.loads(text)
        parent = row["parent"]
        return cls(**{**row, "parent": None if parent is None else Process(**parent)})


def task_of(ctx: Running, folder: Path, *, parent: Process | None = None) -> Task:
    """What another process must know to run this stage."""
    return Task(
        unit=ctx.unit.name, uses=ctx.unit.stage.uses, config=config_to_json(ctx.config), seed=ctx.seed,
        key=ctx.key, run_name=ctx.run_name, retry_refused=ctx.retry_refused,
        inputs={
            name: [[item.entry.manifest.key, item.output, item.unit] for item in contents]
            for name, contents in ctx.contents.items()
        },
        sources={
            name: [found.fact, None if found.path is None else str(found.path), found.original]
            for name, found in ctx.sources.items()
        },
        store=str(ctx.store.root), draft=str(ctx.draft.absolute()), placement=ctx.placement.to_json(),
        offline=ctx.outside.offline, folder=str(folder.absolute()), logs=str(ctx.logs.absolute()), parent=parent,
    )  # fmt: skip


def remote_context(
    work: Task, *, rank: int, stop: StopRequest, listeners: Sequence[Listener] = ()
) -> Running:
    """The Context of a stage in a process that was told of it. Ranks other than 0 have no draft: they write nothing."""
    stage = find_stage(work.uses)
    assert issubclass(stage, Stage)
    store = Store(Path(work.store))
    unit = Unit(
        RecipeStage(
            id=work.unit, uses=work.uses, stage=stage, wires={}, placement=Placement(**work.placement),
            config=build_config(stage.config_class, work.config, node=None, path=work.unit),
        ),
        {},
    )  # fmt: skip
    return Running(
        unit=unit, config=unit.stage.config, seed=work.seed, contents=_contents(work, store),
        sources={
            name: Found(fact=fact, path=None if path is None else Path(path), original=original)
            for name, (fact, path, original) in work.sources.items()
        },
        draft=Path(work.draft) if rank == 0 else Path(work.folder) / f"rank-{rank}-writes-nothing",
        store=store, outside=Outside(memo=store.memo, offline=work.offline),
        events=Events(None, list(listeners)), stop=stop, key=work.key, run_name=work.run_name,
        retry_refused=work.retry_refused, logs_folder=Path(work.logs),
    )  # fmt: skip


def _contents(work: Task, store: Store) -> dict[str, tuple[Content, ...]]:
    contents: dict[str, tuple[Content, ...]] = {}
    for name, items in work.inputs.items():
        found = [(store.get(key), output, unit) for key, output, unit in items]
        missing = [f"{unit}.{output}" for entry, output, unit in found if entry is None]
        assert not missing, f"not in the store {store.root}: {', '.join(missing)}"
        contents[name] = tuple(
            Content(entry, output, unit) for entry, output, unit in found if entry is not None
        )
    return contents


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a stage in another process.

    Args:
        status: done; stopped or out of budget; failed: an error for people; crashed: any other.
        said: the error's text.
        at_s: when the process knew it, seconds since 1970. A process that another one's end brings down
            fails after that one has left its result, so the earliest is where it began.
        outputs, refers, notes: what was written; of rank 0.
    """

    status: Literal["done", "stopped", "unpaid", "failed", "crashed"]
    said: str = ""
    at_s: float = field(default_factory=time.time)
    outputs: dict[str, StoredOutput]
    refers: tuple[str, ...] = ()
    notes: dict[str, Any]

    def to_json(self) -> str:
        """As text."""
        return pretty_json(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Result:
        """Parse `to_json`."""
        row = json.loads(text)
        outputs = outputs_of_rows(row["outputs"])
        return cls(**{**row, "outputs": outputs, "refers": tuple(row["refers"])})
