"""What this machine can do: the facts from which every `auto` setting is resolved by a pure function.

Read once, kept in the store, written into the archive; a rerun uses the archived values, not this machine's.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kpod.runner.control_group import memory_limit_b

# Its answer is immediate; a driver that hangs must not hang a plan.
_DRIVER_TIMEOUT_S = 10.0
# Ampere, the first with bf16 matrix products.
_BF16_COMPUTE = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """A machine, as far as results and defaults depend on it.

    Args:
        device: cpu or cuda.
        has_fast_bf16: bf16 matrix products in hardware (AMX or avx512_bf16 on a CPU; compute capability 8.0, Ampere, on a CUDA device, where it is
            taken for granted if the driver does not tell).
        memory_b: main memory that this process may use, in bytes: the machine's, or what a container or job is given of it.
        num_cpus: processors this process may use.
        machine: processor architecture.
        device_memory_b: memory of the CUDA device, in bytes, the smallest where there are several; None where there is none
            or the driver does not tell.
    """

    device: str
    has_fast_bf16: bool
    memory_b: int
    num_cpus: int
    machine: str
    device_memory_b: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def read_capability() -> Capability:
    """The capability of this machine, without importing torch."""
    flags = _cpu_flags()
    has_cuda = Path("/proc/driver/nvidia/version").exists() and os.environ.get(
        "CUDA_VISIBLE_DEVICES"
    ) not in {"", "-1"}
    card = _card() if has_cuda else None
    has_cpu_bf16 = bool(flags & {"amx_bf16", "avx512_bf16"})
    memory_b = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    has_card_bf16 = has_cuda and (card is None or card.compute >= _BF16_COMPUTE)
    return Capability(
        device="cuda" if has_cuda else "cpu",
        has_fast_bf16=has_card_bf16 if has_cuda else has_cpu_bf16,
        device_memory_b=card.memory_b if card else None,
        memory_b=min(memory_b, memory_limit_b() or memory_b),
        num_cpus=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        machine=platform.machine(),
    )


class _Card(NamedTuple):
    memory_b: int
    compute: float


def _card() -> _Card | None:
    """The least of the CUDA devices, as the driver's own tool tells; None where it does not."""
    command = ["nvidia-smi", "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits"]  # fmt: skip
    try:
        said = subprocess.run(  # noqa: S603 - a fixed command
            command, capture_output=True, text=True, check=True, timeout=_DRIVER_TIMEOUT_S
        ).stdout
        return parse_cards(said)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def parse_cards(said: str) -> _Card:
    """The least memory and compute capability in lines such as `81559, 9.0` (MiB).

    Raises:
        ValueError: a line is of another form.
    """
    rows = [line.split(",") for line in said.splitlines() if line.strip()]
    return _Card(
        min(int(memory) << 20 for memory, _ in rows), min(float(compute) for _, compute in rows)
    )


def _cpu_flags() -> set[str]:
    """The processor's feature flags as Linux names them; empty elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return set()
    with cpuinfo.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() in {"flags", "Features"}:
                return set(value.split())
    return set()


def auto_precision(capability: Capability, *, width: int) -> str:
    """`fp32` or `bf16` for a model of this hidden width.

    Measured on a CPU with AMX (PRACTICE 3): bf16 is 2.4 times fp32 at width 896 and 0.45 times at width 96; the
    crossing was not measured, 512 stands between. Without hardware bf16 a CPU computes in fp32.
    """
    is_wide = width >= 512
    return (
        "bf16" if capability.has_fast_bf16 and (is_wide or capability.device == "cuda") else "fp32"
    )
