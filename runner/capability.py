"""What this machine can do: the facts from which every `auto` setting is resolved by a pure function.

Read once, kept in the store, written into the archive; a rerun uses the archived values, not this machine's.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Capability:
    """A machine, as far as results and defaults depend on it.

    Args:
        device: cpu or cuda.
        has_fast_bf16: bf16 matrix products in hardware (AMX or avx512_bf16 on a CPU; taken for granted on a CUDA device: those before Ampere want `precision: fp32`).
        memory_b: main memory, in bytes.
        num_cpus: processors this process may use.
        machine: processor architecture.
    """

    device: str
    has_fast_bf16: bool
    memory_b: int
    num_cpus: int
    machine: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def read_capability() -> Capability:
    """The capability of this machine, without importing torch."""
    flags = _cpu_flags()
    has_cuda = Path("/proc/driver/nvidia/version").exists() and os.environ.get(
        "CUDA_VISIBLE_DEVICES"
    ) not in {"", "-1"}
    return Capability(
        device="cuda" if has_cuda else "cpu",
        has_fast_bf16=has_cuda or bool(flags & {"amx_bf16", "avx512_bf16"}),
        memory_b=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        num_cpus=len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1,
        machine=platform.machine(),
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
