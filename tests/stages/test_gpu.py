"""Students and texts on a real CUDA device; `make test-gpu` runs these where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from kpod.runner import Interrupted
from kpod.runner.capability import read_capability
from kpod.stages._lm.loading import load_lm
from kpod.stages._lm.precision import resolve_student_precision
from kpod.stages.student._adapter import Lora
from kpod.stages.student._optimizer import optimizer_remark
from kpod.stages.student._settings import Config
from kpod.stages.student.causal_lm import CausalLm
from tests.stages.fakes import FakeContext, FakePlacement
from tests.stages.test_student_causal_lm import FAST, context
from tests.stages.tiny_models import tiny_files, tiny_model
from tests.stages.tiny_texts import requests_of, store_at, texts_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device"),
]
LORA = replace(FAST, lora=Lora(rank=4), precision="fp32")


def trained(config: Config, *, device: str = "cuda", **changes: Any) -> FakeContext[Config]:
    ctx = context(config, placement=FakePlacement(device=device), **changes)
    CausalLm().run(ctx)
    return ctx


def adapter(ctx: FakeContext[Config]) -> dict[str, torch.Tensor]:
    return load_file(ctx.folders["student"] / "adapter_model.safetensors")


def test_a_gpu_trains_as_a_cpu_does() -> None:
    here, there = trained(LORA), trained(LORA, device="cpu")

    # fp32 on both; cuBLAS and oneDNN add in different orders
    assert here.notes["losses"] == pytest.approx(there.notes["losses"], abs=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "nf4", "nf4_double", "int8"])
@pytest.mark.parametrize("optimizer", ["adamw", "paged_adamw_8bit"])
def test_every_precision_learns(precision: Any, optimizer: Any) -> None:
    is_held_in_less = precision not in {"fp32", "bf16"}
    config = replace(
        LORA,
        precision=precision,
        optimizer=optimizer,
        compute="bf16" if is_held_in_less else LORA.compute,
    )
    ctx = trained(config)

    assert ctx.notes["losses"][-1] < ctx.notes["losses"][0]
    assert "optimizer" not in ctx.notes, "a GPU pages; there is nothing to remark"
    assert optimizer_remark(optimizer, device="cuda") is None


def test_auto_is_bf16() -> None:
    found = resolve_student_precision(
        "auto", "auto", read_capability(), tiny_model(), method="lora"
    )

    assert found[0] == "bf16"


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = adapter(trained(LORA))
    stopped = context(LORA, placement=FakePlacement(device="cuda"), root=tmp_path, stop_at=4)
    with pytest.raises(Interrupted):
        CausalLm().run(stopped)
    resumed = adapter(trained(LORA, root=tmp_path))

    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=1e-5, atol=1e-6)


def test_greedy_texts_are_those_of_a_cpu(tmp_path: Path) -> None:
    said = []
    for device in ("cpu", "cuda"):
        with store_at(tmp_path, device) as store:
            model = load_lm(tiny_files(), precision="fp32", device=device)
            said.append([text.text for text in texts_of(store, requests_of(), model=model)])

    assert said[0] == said[1]
