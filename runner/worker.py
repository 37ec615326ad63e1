"""One of several processes that run a stage: `python -m kpod.runner.worker TASK.json`, started by a launcher."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kpod.runner.errors import BudgetReached, ExitCode, Interrupted, KpodError
from kpod.runner.events import Listener
from kpod.runner.interrupt import StopRequest
from kpod.runner.liveness import watch
from kpod.runner.remote import Result, Task, remote_context

EVENTS = "events.jsonl"
STOP = "stop"


def perform(
    work: Task, *, rank: int, stop: StopRequest, listeners: Sequence[Listener] = ()
) -> Result:
    """Run the stage to its end; what it raises is in the result."""
    try:
        ctx = remote_context(work, rank=rank, stop=stop, listeners=listeners)
        ctx.unit.stage.stage().run(ctx)
        outputs = ctx.outputs() if rank == 0 else {}
        return Result(
            status="done", outputs=outputs, refers=tuple(ctx.refers), notes=dict(ctx.notes)
        )
    except Interrupted as error:
        return Result(status="stopped", said=str(error), outputs={}, notes={})
    except BudgetReached as error:
        return Result(status="unpaid", said=str(error), outputs={}, notes={})
    except KpodError as error:
        return Result(status="failed", said=str(error), outputs={}, notes={})
    except Exception as error:  # noqa: BLE001 - the parent tells it
        traceback.print_exc()
        said = f"{type(error).__name__}: {error}"
        return Result(status="crashed", said=said, outputs={}, notes={})


def result_path(folder: Path, rank: int) -> Path:
    """Where a rank leaves its result."""
    return folder / f"rank-{rank}.json"


def log_path(folder: Path, rank: int) -> Path:
    """Where a rank's standard output and error go."""
    return folder / f"rank-{rank}.log"


def main(path: Path) -> int:
    """Run the task as the rank that the launcher made this process."""
    work = Task.from_json(path.read_text(encoding="utf-8"))
    rank, folder = int(os.environ["RANK"]), Path(work.folder)
    _log_to(log_path(folder, rank))
    stop = StopRequest()
    assert work.parent is not None, "somebody waits for a worker"
    watch(work.parent, folder / STOP, stop)
    with stop.listening():
        listeners = [_appender(folder / EVENTS)] if rank == 0 else []
        result = perform(work, rank=rank, stop=stop, listeners=listeners)
        target = result_path(folder, rank)
        new = target.with_suffix(".new")
        new.write_text(result.to_json(), encoding="utf-8")
        new.replace(target)
    is_clean = result.status in {"done", "stopped", "unpaid"}
    return int(ExitCode.DONE if is_clean else ExitCode.STAGE_FAILED)


def _log_to(path: Path) -> None:
    """Send all that this process and its libraries print into a file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    os.close(file)


def _appender(path: Path) -> Listener:
    """Writes every event as a line, for the parent."""

    def append(row: dict[str, Any]) -> None:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps(row) + "\n")

    return append


if __name__ == "__main__":
    _code = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # The result is on the disk. Threads of libraries that still run would end an ordinary exit with an abort now and then.
    os._exit(_code)
