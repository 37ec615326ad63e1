"""Enough memory or not: said before a model is loaded, and told in the same words where it runs out all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import StageError
from kpod.stages._lm.hardware import pick_device
from kpod.stages.student._demand import Demand, budget_b, cheaper, checkpointing_choices
from kpod.stages.student._memory import Memory
from kpod.stages.student._shape import read_shape

if TYPE_CHECKING:
    import torch

    from kpod.runner import Context
    from kpod.stages._lm.artifact import ModelFiles
    from kpod.stages.student._settings import Config

# How torch and the libraries below it say that memory ran out, where they raise nothing more telling than RuntimeError.
_SHORTAGE_TEXTS = (
    "can't allocate memory", "CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "Cannot allocate memory",
)  # fmt: skip


class MemoryPlan(NamedTuple):
    """How a training stays within the memory.

    Args:
        is_checkpointing: whether activations are computed twice instead of kept.
        forecast: what that takes.
        demand: what the forecast read.
        budget: bytes that the training may take.
        there: bytes that the device has for this process.
    """

    is_checkpointing: bool
    forecast: Memory
    demand: Demand
    budget: int
    there: int


def plan_memory(
    ctx: Context[Config],
    files: ModelFiles,
    config: Config,
    longest_tokens: int,
    *,
    num_shards: int = 1,
    zero_stage: int = 0,
) -> MemoryPlan:
    """Forecast the training, note it, and choose gradient checkpointing where it is `auto`.

    Args:
        ctx: its placement is read; the forecast is noted.
        files: of the model to train, not loaded yet.
        config: every `auto` but gradient_checkpointing resolved.
        longest_tokens: of the longest training sequence, both sides of an encoder-decoder together.
        num_shards: processes that the training is spread over.
        zero_stage: of DeepSpeed, if that spreads it.

    Raises:
        StageError: even the cheapest does not fit; the text tells the forecast, the memory and ways out.
    """
    assert config.micro_batch_tokens != "auto", "the runner resolves auto"
    device = pick_device(ctx.placement)
    there = _memory_there(device, ctx.placement.processes)
    budget = budget_b(config.memory_gb, there)
    demand = Demand(
        shape=read_shape(files.weights, files.spec), config=config, micro_batch_tokens=config.micro_batch_tokens,
        is_checkpointing=False, longest=longest_tokens, device=device.type, num_shards=num_shards,
        zero_stage=zero_stage,
    )  # fmt: skip
    choices = [replace(demand, is_checkpointing=choice) for choice in checkpointing_choices(config)]
    chosen = next((choice for choice in choices if choice.memory.total <= budget), choices[-1])
    plan = MemoryPlan(chosen.is_checkpointing, chosen.memory, chosen, budget, there)
    ctx.note("memory", _facts(plan))
    if plan.forecast.total > budget:
        raise StageError(
            f"training takes {_gb(plan.forecast.total)} by forecast, and {_allowed(plan)}\n{_parts(plan)}\n{_ways(plan)}"
        )
    return plan


@contextmanager
def told_shortage(plan: MemoryPlan) -> Iterator[None]:
    """Say what to do where memory runs out within.

    Raises:
        StageError: memory ran out; the text tells the forecast and ways out. Other errors rise as they are.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not _is_shortage(error):
            raise
        said = (str(error).strip().splitlines() or ["no memory left"])[0]
        raise StageError(
            f"out of memory: {said}\nforecast: {_gb(plan.forecast.total)}; {_allowed(plan)}\n{_parts(plan)}\n{_ways(plan)}"
        ) from error


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory_gb` tell of what follows alone; where the system does not allow it, of all since the process began."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        # 5: Linux' number for the peak that VmHWM tells
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory_gb(device: torch.device) -> float:
    """The most memory taken since `forget_peak_memory`, in GB: on a GPU by tensors, else resident by this process."""
    import resource

    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    if status.exists():
        # Of this program alone: ru_maxrss counts what the process held before it became this program (its parent's, after vfork).
        line = next(
            line
            for line in status.read_text(encoding="ascii").splitlines()
            if line.startswith("VmHWM:")
        )
        return int(line.split()[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _is_shortage(error: BaseException) -> bool:
    """Whether an error says that memory ran out (torch.OutOfMemoryError is a RuntimeError)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(text in str(error) for text in _SHORTAGE_TEXTS)


def _memory_there(device: torch.device, processes: int) -> int:
    """Bytes for this process: a GPU's own, or its share of the main memory."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    from kpod.runner.capability import read_capability

    return read_capability().memory_b // processes


def _facts(plan: MemoryPlan) -> dict[str, object]:
    """The forecast for the archive, in GB."""
    parts = {name: round(size / 1e9, 3) for name, size in plan.forecast.parts().items()}
    return {
        "forecast_gb": round(plan.forecast.total / 1e9, 3),
        "parts_gb": parts,
        "budget_gb": round(plan.budget / 1e9, 3),
        "gradient_checkpointing": plan.is_checkpointing,
    }


def _allowed(plan: MemoryPlan) -> str:
    there = f"of the {_gb(plan.there)} there are"
    if plan.demand.config.memory_gb is not None:
        return f"memory_gb allows {_gb(plan.budget)} {there}"
    return f"80 % {there}, {_gb(plan.budget)}, are allowed"


def _parts(plan: MemoryPlan) -> str:
    parts = ", ".join(f"{name} {_gb(size)}" for name, size in plan.forecast.parts().items())
    checkpointing = "with" if plan.is_checkpointing else "without"
    return f"{parts}; {checkpointing} gradient checkpointing"


def _ways(plan: MemoryPlan) -> str:
    """Three changes of the recipe that take least, each with what it would come to."""
    sizes = {text: changed.memory.total for text, changed in cheaper(plan.demand).items()}
    best = sorted(sizes, key=lambda text: sizes[text])[:3]
    ways = [f"set {text} ({_gb(sizes[text])})" for text in best]
    return "; or ".join([*ways, "take a smaller model", "a machine with more memory"][:3])


def _gb(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
