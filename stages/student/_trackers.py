"""The trackers that a training is told to as it goes: TensorBoard, Weights & Biases and MLflow, through accelerate.

All write files beside the archive and need no network. W&B is offline unless WANDB_MODE says otherwise, MLflow keeps files
unless MLFLOW_TRACKING_URI names a server. They are told numbers and settings; a student's settings name no file and hold no
secret, and what these libraries would add by themselves (host, program, arguments, git) is switched off.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kpod.runner import MissingExtra

if TYPE_CHECKING:
    from kpod.runner import Context
    from kpod.stages.student._settings import Config

TrackerName = Literal["tensorboard", "wandb", "mlflow"]
Setting = bool | int | float | str | None

_PROJECT = "kpod"
# What stands in the checkpoint's folder, so that a training that goes on is the same run to its trackers.
_MEMORY = "trackers.json"
# What W&B would record of the machine; none of it is needed, and some of it is private.
_WANDB_SETTINGS: Mapping[str, Any] = {
    "console": "off", "silent": True, "disable_git": True, "disable_code": True, "disable_job_creation": True,
    "x_disable_meta": True, "x_disable_stats": True, "x_disable_machine_info": True, "x_save_requirements": False,
    "host": "", "program": _PROJECT,
}  # fmt: skip


def check_trackers(names: tuple[TrackerName, ...], *, needed_by: str) -> None:
    """Whether the trackers' packages are installed.

    Raises:
        MissingExtra: one is not.
    """
    for name in names:
        spec = find_spec(name)
        # A folder of that name, such as W&B leaves in the working folder, is found as well, without an origin.
        if spec is None or spec.origin is None:
            raise MissingExtra(name, extra="trackers", needed_by=f"{needed_by}: [{name}]")


def trackers_of(ctx: Context[Config], *, device: str) -> Trackers | None:
    """The trackers of a training; None where the recipe names none.

    Args:
        ctx: settings, the checkpoint's folder and the folder for logs.
        device: cpu or cuda.
    """
    names = tuple(dict.fromkeys(ctx.config.trackers))
    if not names:
        return None
    return Trackers(
        names=names, folder=ctx.logs, memory=ctx.checkpoint / _MEMORY, settings=flat_settings(ctx.config, seed=ctx.seed),
        metric=ctx.config.validate.metric, is_cpu=device == "cpu",
    )  # fmt: skip


def flat_settings(config: Config, *, seed: int) -> dict[str, Setting]:
    """The settings by dotted name, lists as JSON texts."""
    flat: dict[str, Setting] = {"seed": seed}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                add(f"{name}.{key}" if name else key, inner)
        elif isinstance(value, list | tuple):
            flat[name] = json.dumps(value)
        else:
            flat[name] = value

    add("", asdict(config))
    return flat


@dataclass(slots=True, kw_only=True)
class Trackers:
    """Tells several trackers the same; they are opened at the first value, when it is known which step that is.

    Args:
        names: of the trackers.
        folder: for their files; the last parts of its path name run and unit.
        memory: a file that an interrupted training leaves for the one that goes on.
        settings: the hyper-parameters.
        metric: what is judged by, for the name of its curve.
        is_cpu: whether the training is on a CPU.
    """

    names: tuple[TrackerName, ...]
    folder: Path
    memory: Path
    settings: Mapping[str, Setting]
    metric: str
    is_cpu: bool
    _open: list[Any] = field(default_factory=list)

    def log(self, values: Mapping[str, float], *, step: int) -> None:
        """Tell values of an optimizer step (from 1)."""
        if not self._open:
            self._start(step)
        for tracker in self._open:
            tracker.log(dict(values), step=step)

    def close(self) -> None:
        """End all of them, even where one fails to."""
        with ExitStack() as stack:
            for tracker in self._open:
                stack.callback(tracker.finish)
        self._open = []

    def _start(self, step: int) -> None:
        """Open a new run in each tracker, or the one of the training that was interrupted."""
        from accelerate import PartialState

        PartialState(
            cpu=self.is_cpu
        )  # accelerate's trackers ask it whether this is the main process
        before = _remembered(self.memory)
        folder = Path(str(before.pop("folder", self.folder)))
        folder.mkdir(parents=True, exist_ok=True)
        for name in self.names:
            run = before.get(name)
            tracker = _OPENERS[name](folder, _run_name(folder), run, step)
            tracker.start()
            if run is None:
                tracker.store_init_configuration(dict(self.settings))
            before[name] = _run_id(name, tracker)
            self._open.append(tracker)
        text = json.dumps({**before, "folder": str(folder)}, sort_keys=True)
        self.memory.write_text(text + "\n", encoding="utf-8", newline="\n")


def _remembered(memory: Path) -> dict[str, str]:
    """What an interrupted training left; nothing where its files are gone."""
    try:
        before: dict[str, str] = json.loads(memory.read_text(encoding="utf-8"))
        is_there = Path(before["folder"]).is_dir()
    except (OSError, ValueError, KeyError):
        return {}
    return before if is_there else {}


def _run_name(folder: Path) -> str:
    """Archive and unit: `…/<archive>/trackers/<unit>`."""
    return f"{folder.parent.parent.name}/{folder.name}"


def _run_id(name: str, tracker: Any) -> str:
    """By what the tracker finds the run again."""
    if name == "mlflow":
        return str(tracker.tracker.info.run_id)
    return str(tracker.tracker.id) if name == "wandb" else name


def _tensorboard(folder: Path, name: str, run: str | None, step: int) -> Any:  # noqa: ARG001 - as its siblings
    """A file a process; those of one folder are one run. What the interrupted one told after its checkpoint is hidden."""
    from accelerate.tracking import TensorBoardTracker

    return TensorBoardTracker("tensorboard", folder, purge_step=None if run is None else step)


def _wandb(folder: Path, name: str, run: str | None, step: int) -> Any:  # noqa: ARG001
    """Offline, a folder a process; `wandb sync` puts those of one id together."""
    from accelerate.tracking import WandBTracker

    return WandBTracker(
        _PROJECT, name=name, id=run or uuid.uuid4().hex[:8], resume="allow", dir=str(folder),
        mode=os.environ.get("WANDB_MODE", "offline"), settings=dict(_WANDB_SETTINGS),
    )  # fmt: skip


def _mlflow(folder: Path, name: str, run: str | None, step: int) -> Any:  # noqa: ARG001
    """In files, which MLflow 3 keeps up but writes only where it is told so: its data bases need many packages more."""
    import mlflow
    from accelerate.tracking import MLflowTracker

    if "MLFLOW_TRACKING_URI" not in os.environ:
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        mlflow.set_tracking_uri((folder / "mlflow").absolute().as_uri())
    tags = {"mlflow.source.name": _PROJECT, "mlflow.user": _PROJECT}
    return MLflowTracker(_PROJECT, run_id=run, run_name=name, tags=tags)


_OPENERS = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
