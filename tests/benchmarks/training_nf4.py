"""The nf4 part of the training benchmark: our training beside weights in 4 bits, against our own beside whole ones.

Goals (issue 5): at most 1.2 times the time, and less than half the memory for parameters. The time is measured with a sixth of the
layers; their memory is counted for all of them: that of the embedding once, of the layers as many times as there are.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import training_models as models
from tests.benchmarks import training_peers as peers

# Of Qwen2.5-0.5B.
ALL_LAYERS = 24
TIME_GOAL = 1.2
MEMORY_GOAL = 0.5


def measure(
    root: Path,
    options: argparse.Namespace,
    *,
    compare: Callable[..., dict[str, list[float]]],
    lower_bound: Callable[..., float],
) -> dict[str, Any]:
    """Ratios of time and of memory, nf4 over whole weights."""
    layers = max(1, options.layers // 6)
    whole = models.half_b(root, num_steps=1, layers=layers)
    quantised = whole._replace(model=_quantised(root / "qwen2", whole, layers=layers))
    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds = compare(
        {
            "whole": lambda: peers.run_ours(whole, clock=clock),
            "nf4": lambda: peers.run_ours(quantised, clock=clock),
        },
        num_pairs=options.pairs,
    )
    ratios = [a / b for a, b in zip(seconds["nf4"], seconds["whole"], strict=True)]
    # The interval's upper end: the lower one of what is better when it is high.
    high = -lower_bound([-ratio for ratio in ratios])
    memory = [_parameter_b(task.model(), layers) for task in (quantised, whole)]
    frac = memory[0] / memory[1]
    return {
        "time_ratio_median": round(statistics.median(ratios), 2),
        "time_ratio_high_90": round(high, 2),
        "parameter_mb": [round(value / 1e6) for value in memory],
        "parameter_memory_frac": round(frac, 3),
        "goals": {"time_ratio": TIME_GOAL, "parameter_memory_frac": MEMORY_GOAL},
        "precision": whole.precision,
        "is_met": high <= TIME_GOAL and frac < MEMORY_GOAL,
    }


def _quantised(folder: Path, whole: models.Task, *, layers: int) -> Callable[[], Any]:
    """Models with the same weights in 4 bits and a fresh adapter; loaded again each time, outside of the clock."""
    from kpod.stages._lm.artifact import ModelFiles
    from kpod.stages._lm.checkpoint_folder import checkpoint_spec
    from kpod.stages._lm.loading import load_quantised
    from kpod.stages._lm.quantised import make_trainable
    from kpod.stages._lm.saving import save_model
    from kpod.stages.student._adapter import Lora, add_lora

    folder.mkdir(parents=True)
    save_model(models.random_qwen2(layers=layers), folder)
    files = ModelFiles(folder, None, checkpoint_spec(folder, is_pointer=False), "qwen2")
    computed: Any = whole.precision

    def load() -> Any:
        model = load_quantised(files, "nf4", precision=computed, device="cpu", is_double=False)
        make_trainable(model)
        return add_lora(model, Lora(rank=8, alpha=16.0), seed=0)

    return load


def _parameter_b(model: Any, layers: int) -> float:
    """Bytes of the frozen parameters, with the scales of quantised ones, for a model of all its layers."""
    in_layers = rest = 0
    for name, value in model.named_parameters():
        if value.requires_grad:
            continue
        size = value.numel() * value.element_size()
        state = getattr(value, "quant_state", None)
        if state is not None:
            size += state.absmax.numel() * state.absmax.element_size()
        if ".layers." in name:
            in_layers += size
        else:
            rest += size
    return rest + in_layers / layers * ALL_LAYERS
