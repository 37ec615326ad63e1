"""A student's `auto` settings, resolved by the machine, the model's shape and the memory there is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kpod.stages._lm.precision import resolve_student_precision
from kpod.stages.student._demand import Demand, budget_b, checkpointing_choices

if TYPE_CHECKING:
    from kpod.runner.capability import Capability
    from kpod.stages.student._settings import Config

# Most tokens computed at once. A CPU: 4096, above which it was no faster (tests/benchmarks/training.py). A GPU is fed best by
# as many as fit; our limit, above which its matrix products are long since at their peak.
_MOST_TOKENS = {"cpu": 4096, "cuda": 32768}
# The inputs are not read yet, so that the longest sequence is not known: a worked example has at most so many tokens.
_USUAL_LONGEST = 1024


def resolve(config: Config, capability: Capability, model: Path) -> Config:
    """The settings with every `auto` that can change the result replaced.

    Args:
        config: as the recipe has it.
        capability: of the machine.
        model: folder of the model to train.
    """
    precision, compute = resolve_student_precision(
        config.precision, config.compute, capability, model, method=config.method
    )
    resolved = replace(config, precision=precision, compute=compute)
    if config.micro_batch_tokens != "auto":
        return resolved
    return replace(resolved, micro_batch_tokens=_fitting_tokens(resolved, capability, model))


def _fitting_tokens(config: Config, capability: Capability, model: Path) -> int:
    """The largest power of two of tokens whose forecast fits; with gradient checkpointing only where none fits without.

    Sequences are taken to be as long as `max_length` allows, else as the model's context, at most 1024. Below the longest
    nothing is gained, since a sequence is never split; where even that does not fit, the run tells.
    """
    from kpod.stages._lm.artifact import read_spec
    from kpod.stages.student._shape import read_shape

    is_cuda = capability.device == "cuda"
    there_b = capability.memory_b
    if is_cuda and capability.device_memory_b is not None:
        there_b = capability.device_memory_b
    most = _MOST_TOKENS["cuda" if is_cuda else "cpu"]
    longest = config.max_length or min(_context(model), _USUAL_LONGEST)
    demand = Demand(
        shape=read_shape(model, read_spec(model)), config=config, micro_batch_tokens=most, is_checkpointing=False,
        longest=longest, device="cuda" if is_cuda else "cpu",
    )  # fmt: skip
    least = min(most, 1 << (longest - 1).bit_length())
    sizes = [1 << bits for bits in range(least.bit_length() - 1, most.bit_length())][::-1]
    for is_checkpointing in checkpointing_choices(config):
        for tokens in sizes:
            asked = replace(demand, micro_batch_tokens=tokens, is_checkpointing=is_checkpointing)
            if asked.memory.total <= budget_b(config.memory_gb, there_b):
                return tokens
    return least


def _context(model: Path) -> int:
    """The longest sequence the model was trained on, where its config.json lies in its folder."""
    from kpod.stages._lm.artifact import read_json_object

    path = model / "config.json"
    config = read_json_object(path) if path.is_file() else {}
    named = (config.get(name) for name in ("max_position_embeddings", "n_positions"))
    return next((length for length in named if isinstance(length, int)), _USUAL_LONGEST)
