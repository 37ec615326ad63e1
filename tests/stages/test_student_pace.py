"""How fast a training is said to be: the arithmetic of a step, the machine's peak, memory and time left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import pad
from kpod.stages.student._adapter import Lora, add_lora
from kpod.stages.student._loss import backward, take_apart
from kpod.stages.student._monitor import Monitor, Pace
from kpod.stages.student._pace import Work, _peak, memory_gb, peak_flops, work_of
from kpod.stages.student._step import Step
from kpod.stages.student._tally import Tally
from tests.stages.tiny_models import Tiny, tiny_files
from tests.stages.tiny_training import EXAMPLES

CPU = torch.device("cpu")
STEP = Step(2.0, 10.0, 10, 40, 48, 0.5, 1e-3)


def parts_of(architecture: Tiny, *, has_adapter: bool) -> Parts:
    model: Any = load_lm(tiny_files(architecture), precision="fp32", device="cpu")
    if has_adapter:
        model = add_lora(model, Lora(rank=4), seed=0)
    model.train()
    return take_apart(model, precision="fp32", probe_ids=(1, 2, 3))


def counted(student: Parts) -> tuple[float, float]:
    """FLOPs of four equal sequences: of matrices as torch counts them, and as the monitor tells them."""
    from torch.utils.flop_counter import FlopCounterMode

    one = EXAMPLES[0].passage(9)
    batch = pad([one] * 4, device=CPU, encoder=student.encoder)
    with FlopCounterMode(display=False) as counter:
        backward(student, batch, denominator=1.0)
    work = work_of(student)._replace(encoder=0.0, causal=0.0, cross=0.0)
    told = work.of_step(
        num_sequences=4, num_tokens=4 * one.num_tokens, num_targets=4 * len(one.target_ids)
    )
    flops: Any = counter.get_flop_counts()["Global"]
    return float(flops[torch.ops.aten.mm]), told


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_the_flops_of_full_training_are_those_that_torch_counts(architecture: Tiny) -> None:
    expected, told = counted(parts_of(architecture, has_adapter=False))

    assert told == expected


def test_the_flops_of_an_adapter_leave_out_the_frozen_weights_gradients() -> None:
    expected, told = counted(parts_of("qwen3", has_adapter=True))

    # Nothing asks for the gradient of what goes into the first of the two layers; the monitor counts it all the same.
    assert expected <= told <= 1.2 * expected


def test_an_encoder_is_counted_for_what_is_read_and_a_decoder_for_what_is_said() -> None:
    expected, told = counted(parts_of("t5", has_adapter=False))

    # The encoder's end tokens are the rest: one for three tokens of prompt here.
    assert 0.8 * expected <= told <= expected


def test_attention_grows_with_the_square_of_a_sequence() -> None:
    work = Work(0.0, 0.0, 0.0, 6.0, 0.0)

    assert work.of_step(num_sequences=1, num_tokens=20, num_targets=5) == 2400
    assert work.of_step(num_sequences=2, num_tokens=20, num_targets=5) == 1200


def test_the_peak_is_measured_once_fast_and_draws_no_random_number() -> None:
    student = parts_of("qwen3", has_adapter=False)
    _peak.cache_clear()
    state = torch.get_rng_state()

    began_s = time.process_time()
    first = peak_flops(student)
    took_s = time.process_time() - began_s

    assert first > 1e6
    assert took_s < 0.3
    assert peak_flops(student) == first
    assert torch.equal(torch.get_rng_state(), state)


def paced(*, peak: float | None = 1000.0, num_steps: int = 100) -> Monitor:
    return Monitor(
        pace=Pace(
            num_steps=num_steps, num_sequences=4, work=Work(10.0, 10.0, 0.0, 0.0, 0.0), peak=peak,
            memory_gb=lambda: 1.5,
        )
    )  # fmt: skip


def test_the_first_step_tells_loss_and_memory_and_the_next_ones_the_pace() -> None:
    monitor = paced()
    first = monitor.after(STEP, Tally(step=1, processed_tokens=40, seconds=5.0))
    second = monitor.after(STEP, Tally(step=2, processed_tokens=80, seconds=6.0))

    assert first == {"loss": 2.0, "tokens_per_s": 8.0, "memory_gb": 1.5}
    # 400 FLOPs in the one second that counts, of 1000 that there could be; 98 steps of a second are left.
    assert (second["peak_frac"], second["seconds_left"]) == (0.4, 98.0)


def test_only_the_last_steps_count_for_the_pace() -> None:
    monitor, seconds = paced(), 0.0
    facts: dict[str, float] = {}
    for step in range(1, 60):
        seconds += 10.0 if step < 30 else 0.5
        facts = monitor.after(STEP, Tally(step=step, processed_tokens=40 * step, seconds=seconds))

    assert facts["seconds_left"] == pytest.approx(41 * 0.5)


def test_a_short_training_has_no_share_of_a_peak_that_nobody_measured() -> None:
    monitor = paced(peak=None)
    monitor.after(STEP, Tally(step=1, seconds=1.0))

    assert "peak_frac" not in monitor.after(STEP, Tally(step=2, seconds=2.0))


def test_a_monitor_alone_tells_loss_and_rate() -> None:
    assert Monitor().after(STEP, Tally(step=1, processed_tokens=40, seconds=2.0)) == {
        "loss": 2.0,
        "tokens_per_s": 20.0,
    }


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc here")
def test_memory_is_what_the_process_holds() -> None:
    import resource

    now = memory_gb(CPU)

    assert now is not None
    assert 0.05 < now <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9 * 1.05
