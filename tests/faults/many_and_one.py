"""A student that several processes trained, beside the one that a single process makes of the same recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.chain import Chain, recipe

Notes = Mapping[str, Any]


def trained_by_many_and_one(
    chain: Chain, placed: Mapping[str, Any], *, method: str, inputs: Mapping[str, str] | None = None, **settings: Any
) -> tuple[Notes, Notes]:  # fmt: skip
    """Notes of both. The shipped base, a ragged epoch of 50 sequences: losses, weights and the key are the same, all other files byte for byte.

    Args:
        chain: an empty one.
        placed: placement of the student under several processes.
        method: full or lora.
        inputs: of the student, beside those that wire themselves.
        settings: of the student, beside these.
    """
    chain.environment["OMP_NUM_THREADS"] = "1"
    fixed = {"epochs": 2, "batch_size": 16, "precision": "fp32", "learning_rate": 0.001, "checkpoint_every_s": 0}  # fmt: skip
    student = {"uses": "student.causal_lm", "with": {"method": method, **fixed, **settings}}
    plain = recipe(
        questions={"uses": "data.word_problems", "with": {"num_train": 50, "num_validation": 5, "num_test": 5, "seed": 7}},
        base={"uses": "model.pretrained", "with": {"package": "kpod.stages.model", "file": "quickstart_base"}},
        rationales={"uses": "teacher.reference"},
        student=student if inputs is None else {**student, "in": dict(inputs)},
    )  # fmt: skip
    chain.write({**plain, "placement": {"stages": {"student": dict(placed)}}})
    many = chain.kpod("run", "recipe.yaml")
    assert many.returncode == 0, many.stderr
    entry = next(chain.store.glob("entries/*/*/student"))
    name = "model.safetensors" if method == "full" else "adapter_model.safetensors"
    told = json.loads((entry.parent / "manifest.json").read_text())["notes"]
    weights, files = load_file(entry / name), {p.name: p.read_bytes() for p in entry.iterdir()}

    one = chain.run({**plain, "placement": {"default": {"device": "cpu", "threads": 1}}}, force=["student"])  # fmt: skip

    assert entry == next(chain.store.glob("entries/*/*/student"))
    notes = one.archive.units["student"].manifest.notes
    assert told["losses"] == pytest.approx(notes["losses"], abs=1e-4)
    alone = load_file(entry / name)
    assert alone.keys() == weights.keys()
    assert all(torch.allclose(alone[key], weights[key], atol=1e-4) for key in alone)
    same = {path.name: path.read_bytes() for path in entry.iterdir()}
    for each in (same, files):
        del each[name], each["model.json"]
    assert same == files
    return told, notes
