"""A recipe whose accelerate config asks for DeepSpeed, run as a person runs it: the same student as one process makes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.chain import Chain, recipe

needs_deepspeed = pytest.mark.skipif(
    find_spec("deepspeed") is None,
    reason="deepspeed is not installed: pip install 'kpod[deepspeed]'",
)


def placed(folder: Path, **fields: Any) -> dict[str, Any]:
    """A placement with what `accelerate config` writes."""
    config = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "DEEPSPEED", "num_processes": 2, "num_machines": 1,
        "mixed_precision": "no", "use_cpu": True, "deepspeed_config": fields,
    }  # fmt: skip
    path = folder / "deepspeed.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return {"device": "cpu", "accelerate": str(path)}


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(("method", "stage"), [("full", 2), ("lora", 3)])
def test_a_student_of_an_accelerate_config_with_deepspeed_is_that_of_one_process(
    chain: Chain, method: str, stage: int
) -> None:
    """All its files but the weights have the same bytes."""
    chain.environment["OMP_NUM_THREADS"] = "1"
    zero = chain.folder / "zero.json"
    zero.write_text(
        json.dumps({"zero_optimization": {"stage": stage}, "train_batch_size": "auto", "gradient_clipping": 1.0}),
        encoding="utf-8",
    )  # fmt: skip
    settings = {
        "method": method, "epochs": 2, "batch_size": 16, "precision": "fp32", "learning_rate": 0.001, "checkpoint_every_s": 0,
    }  # fmt: skip
    plain = recipe(
        questions={"uses": "data.word_problems", "with": {"num_train": 50, "num_validation": 5, "num_test": 5, "seed": 7}},
        base={"uses": "model.pretrained", "with": {"package": "kpod.stages.model", "file": "quickstart_base"}},
        rationales={"uses": "teacher.reference"},
        student={"uses": "student.causal_lm", "with": settings},
    )  # fmt: skip
    on_two = placed(chain.folder, deepspeed_config_file=str(zero), zero3_init_flag=False)
    chain.write({**plain, "placement": {"stages": {"student": on_two}}})
    two = chain.kpod("run", "recipe.yaml")
    assert two.returncode == 0, two.stderr
    entry = next(chain.store.glob("entries/*/*/student"))
    several = {path.name: path.read_bytes() for path in entry.iterdir()}
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    spread = load_file(entry / name)
    told = json.loads((entry.parent / "manifest.json").read_text())["notes"]
    assert told["spread_by_deepspeed"] == {"stage": stage, "processes": 2}

    one = chain.run({**plain, "placement": {"default": {"device": "cpu", "threads": 1}}}, force=["student"])  # fmt: skip

    assert told["losses"] == pytest.approx(
        one.archive.units["student"].manifest.notes["losses"], abs=1e-4
    )
    alone = load_file(entry / name)
    assert alone.keys() == spread.keys()
    assert all(torch.allclose(alone[key], spread[key], atol=1e-4) for key in alone)
    same = {path.name: path.read_bytes() for path in entry.iterdir()}
    for files in (same, several):
        del files[name], files["model.json"]
    assert same == several
