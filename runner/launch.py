"""Where a stage is executed: here, in processes of its own, or together with those that a launcher started beside us.

In the last case (`torchrun … -m kpod.runner run R.yaml`, or accelerate launch) rank 0 is the runner as ever; the other
ranks plan and print nothing: they wait for a stage that can be split, run it beside rank 0, and end when it ends.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from kpod.runner.errors import ExitCode, KpodError, StageError, StageFailed
from kpod.runner.launch_plan import check_machine, computes_on, launch_plan, refusal
from kpod.runner.launch_sharding import check_sharding_environment
from kpod.runner.launch_zero import check_zero_installed, zero_of_environment
from kpod.runner.manifest import StoredOutput
from kpod.runner.plan import Unit
from kpod.runner.recipe import RecipeStage
from kpod.runner.running import Running

# How processes meet is torch's business: named, not imported, as stages are.
_PROCESSES = "kpod.stages._lm.processes"
_END = "end"
# How long a rank whose stage failed waits to hear that rank 0 failed likewise.
_GRACE_S = 20.0
_COMMANDS = {"run", "rerun", "sweep"}
# Set by accelerate's launcher for what spreads a training over processes; Megatron-LM is not built.
_FSDP = "ACCELERATE_USE_FSDP"
_DEEPSPEED = "ACCELERATE_USE_DEEPSPEED"
_NOT_BUILT = {"ACCELERATE_USE_MEGATRON_LM": "MEGATRON_LM"}


def is_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    size = os.environ.get("WORLD_SIZE", "1")
    return {"RANK", "MASTER_ADDR"} <= os.environ.keys() and size.isdigit() and int(size) > 1


def check_placements(units: Iterable[Unit]) -> None:
    """Refuse what cannot work, before anything is run.

    Raises:
        StageFailed: a placement asks for more than there is, or contradicts who launched us.
    """
    for unit in units:
        try:
            check_placement(unit.stage)
        except KpodError as error:
            raise StageFailed(unit.name, unit.stage.uses, error) from error


def check_placement(stage: RecipeStage) -> None:
    """Refuse a placement that cannot work.

    Raises:
        StageError: the placement asks for more than there is, or contradicts who launched us.
    """
    if not stage.stage.parallel:
        return
    if not is_launched():
        launch_plan(stage.placement)
        return
    others = [name for variable, name in _NOT_BUILT.items() if _is_on(variable)]
    if others:
        raise refusal(f"the launcher was told distributed_type: {others[0]}")
    if _is_on(_FSDP):
        check_sharding_environment(os.environ)
    if _is_on(_DEEPSPEED):
        zero_of_environment(os.environ)
        check_zero_installed()
    size = int(os.environ["WORLD_SIZE"])
    local = os.environ.get("LOCAL_WORLD_SIZE", "1")
    if local.isdigit() and computes_on(stage.placement) == "cuda":
        check_machine(int(local), "cuda", said_by="the launcher's number of processes")
    if stage.placement.accelerate is not None or stage.placement.processes not in (1, size):
        raise StageError(
            f"a launcher started {size} processes, but the placement asks for"
            f" processes: {stage.placement.processes}, accelerate: {stage.placement.accelerate}\n"
            "drop both from the placement, or start kpod without the launcher"
        )


def execute_stage(ctx: Running) -> dict[str, StoredOutput]:
    """Run a stage where its placement says; what it has written.

    Raises:
        KpodError: as the stage raises it; a process of it died.
    """
    stage = ctx.unit.stage.stage
    if stage.parallel and is_launched():
        from kpod.runner.remote import task_of

        import_module(_PROCESSES).tell(task_of(ctx, ctx.checkpoint).to_json())
    elif stage.parallel:
        plan = launch_plan(ctx.placement)
        if plan.num_processes > 1:
            from kpod.runner.spawn import spawn

            return spawn(ctx, plan)
    stage().run(ctx)
    return ctx.outputs()


def spent_cpu_s() -> float:
    """CPU seconds of this process and of those that it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def take_part(command: str, run: Callable[[], int]) -> int:
    """A command in one of several launched processes: rank 0 runs it, the others follow."""
    if int(os.environ["RANK"]) != 0:
        return follow() if command in _COMMANDS else int(ExitCode.DONE)
    try:
        return run()
    finally:
        if command in _COMMANDS:
            import_module(_PROCESSES).tell(_END)  # whatever came: the others must not wait for ever


def follow() -> int:
    """Run, beside rank 0, every stage that it tells of, until it ends; prints only what rank 0 cannot know."""
    from kpod.runner.console import complain
    from kpod.runner.interrupt import StopRequest
    from kpod.runner.remote import Task
    from kpod.runner.worker import perform

    processes: Any = import_module(_PROCESSES)
    rank, number, stop = int(os.environ["RANK"]), 0, StopRequest()
    with stop.listening():
        while True:
            number += 1
            told = processes.hear(number)
            if told in (None, _END):
                return int(ExitCode.DONE)
            result = perform(Task.from_json(told), rank=rank, stop=stop)
            if result.status == "done":
                continue
            if processes.hear(number + 1, within_s=_GRACE_S) is None:
                complain(f"rank {rank}: {result.said}")
                return int(ExitCode.STAGE_FAILED)


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() in {"1", "true", "yes", "on"}
