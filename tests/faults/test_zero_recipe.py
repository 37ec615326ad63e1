"""A recipe whose accelerate config asks for DeepSpeed, run as a person runs it: the same student as one process makes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.chain import Chain
from tests.faults.many_and_one import trained_by_many_and_one

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
    zero = chain.folder / "zero.json"
    zero.write_text(
        json.dumps({"zero_optimization": {"stage": stage}, "train_batch_size": "auto", "gradient_clipping": 1.0}),
        encoding="utf-8",
    )  # fmt: skip
    on_two = placed(chain.folder, deepspeed_config_file=str(zero), zero3_init_flag=False)

    told, _ = trained_by_many_and_one(chain, on_two, method=method)

    assert told["spread_by_deepspeed"] == {"stage": stage, "processes": 2}
