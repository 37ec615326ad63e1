"""How many processes a placement means, and the launcher's command line for them. Everything that cannot work is refused here."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kpod.runner.capability import read_capability
from kpod.runner.errors import StageError
from kpod.runner.launch_sharding import check_sharding_file
from kpod.runner.launch_zero import check_zero_installed, zero_of_file
from kpod.runner.recipe import Placement

_ALLOWED_TYPES = ("NO", "MULTI_CPU", "MULTI_GPU")
_SHARDED = "FSDP"
_ZERO = "DEEPSPEED"
# What the launcher calls them.
_FLAGS = {_SHARDED: "--use_fsdp", _ZERO: "--use_deepspeed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Processes that a launcher starts.

    Args:
        num_processes: how many; 1: none is started.
        device: what all of them compute on: cpu or cuda.
        words: the launcher's module and its options, before those of what is started.
    """

    num_processes: int
    device: str
    words: tuple[str, ...] = ()


def launch_plan(placement: Placement) -> LaunchPlan:
    """What a placement means on this machine.

    Raises:
        StageError: the accelerate config cannot be read, contradicts the placement or asks for what is not supported;
            or there are more processes than CUDA devices or processors.
    """
    config = {} if placement.accelerate is None else _read(Path(placement.accelerate))
    if config:
        _check_config(config, placement)
    num_processes = placement.processes
    if num_processes == 1:
        num_processes = int(config.get("num_processes") or 1)
    device = _device(placement, config)
    if num_processes == 1:
        return LaunchPlan(num_processes=1, device=device)
    who = (
        "placement.processes"
        if placement.processes > 1
        else "num_processes of placement.accelerate"
    )
    check_machine(num_processes, device, said_by=who)
    named = [] if placement.accelerate is None else ["--config_file", placement.accelerate]
    kind = _FLAGS.get(_kind(config), "--multi_gpu")
    return LaunchPlan(
        num_processes=num_processes, device=device,
        # accelerate starts processes that compute on CPUs only through MPI; its launcher for GPUs is torchrun, which
        # does not look at what they compute on.
        words=(
            "accelerate.commands.launch", *named, kind, "--num_processes", str(num_processes),
            "--num_machines", "1", "--mixed_precision", _mixed_precision(config), "--dynamo_backend", "no", "--main_process_port", "0",
            "--num_cpu_threads_per_process", str(_threads(placement, num_processes)),
        ),
    )  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        config = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise StageError(
            f"placement.accelerate: {path} cannot be read: {(error.strerror or '').lower()}\n"
            "write one with: accelerate config --config_file FILE, or drop it and set processes"
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        said = str(error).replace("\n", " ")
        raise StageError(f"placement.accelerate: {path} is no YAML or JSON: {said}") from error
    if not isinstance(config, dict):
        raise StageError(
            f"placement.accelerate: {path} holds {type(config).__name__}, and must hold a mapping"
        )
    return config


def _check_config(config: dict[str, Any], placement: Placement) -> None:
    where = f"placement.accelerate: {placement.accelerate}"
    kind = _kind(config)
    if kind == _SHARDED:
        check_sharding_file(config, where=where)
    elif kind == _ZERO:
        zero_of_file(config, where=where)
        check_zero_installed()
    elif kind not in _ALLOWED_TYPES:
        raise refusal(f"{where} has distributed_type: {kind}")
    machines = config.get("num_machines") or 1
    if machines != 1:
        raise StageError(
            f"{where} has num_machines: {machines}, but kpod starts processes on one machine\n"
            "start it on every machine instead: accelerate launch --config_file FILE -m kpod.runner run RECIPE"
        )
    own = config.get("num_processes") or 1
    if not isinstance(own, int) or own < 1:
        raise StageError(f"{where} has num_processes: {own}, and must have an integer >= 1")
    if placement.processes not in (1, own):
        raise StageError(
            f"{where} has num_processes: {own}, and placement.processes is {placement.processes}\n"
            "drop processes, or set the same number"
        )


def _kind(config: dict[str, Any]) -> str:
    return str(config.get("distributed_type", "NO")).upper()


def refusal(got: str) -> StageError:
    """Of the ways to spread a training over processes, two are built."""
    return StageError(
        f"{got}, but a student's processes hold the whole model each, or spread it with FSDP2 or DeepSpeed\n"
        f"allowed: distributed_type {', '.join(_ALLOWED_TYPES)}, {_SHARDED} with fsdp_version: 2, or {_ZERO}\n"
        "for a model that does not fit, without these: method: lora with precision: nf4, or gradient_checkpointing: true"
    )


def _device(placement: Placement, config: dict[str, Any]) -> str:
    if config.get("use_cpu") or _kind(config) == "MULTI_CPU":
        if placement.device == "cuda":
            raise StageError(
                f"placement.device is cuda, but {placement.accelerate} says use_cpu or MULTI_CPU\n"
                "change one of them"
            )
        return "cpu"
    return computes_on(placement)


def computes_on(placement: Placement) -> str:
    """The device that a placement means on this machine: cpu or cuda."""
    return read_capability().device if placement.device == "auto" else placement.device


def check_machine(num_processes: int, device: str, *, said_by: str) -> None:
    """Two processes on one device wait for each other, or for its memory.

    Raises:
        StageError: there are more processes than CUDA devices, or than processors.
    """
    have = num_cuda_devices() if device == "cuda" else read_capability().num_cpus
    if num_processes > have:
        what = "CUDA devices" if device == "cuda" else "processors"
        raise StageError(
            f"{said_by} is {num_processes}, but this machine has {have} {what} to compute on\n"
            f"allowed: 1 to {have}"
        )


def num_cuda_devices() -> int:
    """CUDA devices that this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in {"", "-1"}])
    folder = Path("/proc/driver/nvidia/gpus")
    return len(list(folder.iterdir())) if folder.exists() else 0


def _mixed_precision(config: dict[str, Any]) -> str:
    """As the config has it, for the student to tell that it goes by its own; YAML reads a bare `no` as false."""
    return str(config.get("mixed_precision") or "no")


def _threads(placement: Placement, num_processes: int) -> int:
    """CPU threads of each process: what the placement or OMP_NUM_THREADS says, else a fair share of the processors."""
    if placement.threads is not None:
        return placement.threads
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdigit() else max(1, read_capability().num_cpus // num_processes)
