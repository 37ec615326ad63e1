"""A run made again from its archive alone: the same, nearly the same, replayed, or not, with the first thing that differs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner.archive import list_runs
from kpod.runner.cli import main
from kpod.runner.comparing.tensors import tensors_of
from kpod.runner.errors import KpodError
from kpod.runner.registry import STAGES, find_stage
from kpod.runner.stage import Stage
from kpod.runner.verifying import RELATIVE, _record_differences, _where_they_part, determinism_of
from tests.chain import Chain, recipe, seven


def _verify(chain: Chain, *words: str) -> int:
    return main(["rerun", "last", "--verify", "--runs", str(chain.runs), *words])


def _verdicts(chain: Chain) -> dict[str, dict[str, Any]]:
    kept = json.loads(
        (list_runs(chain.runs)[-1].folder / "verification.json").read_text(encoding="utf-8")
    )
    return {row["unit"]: row for row in kept["outputs"]}


def test_every_result_is_made_again_without_recipe_or_store(
    chain: Chain, capsys: pytest.CaptureFixture[str]
) -> None:
    first = chain.run(seven())
    shutil.rmtree(chain.store)
    (chain.folder / "recipe.yaml").unlink()
    before = chain.lines()

    assert _verify(chain) == 0

    told = capsys.readouterr().out
    assert "7 bit-identical" in told
    again = list_runs(chain.runs)[-1]
    assert again.facts["rerun_of"] == first.archive.name
    assert [unit.status for unit in again.units.values()] == ["run"] * 7
    assert len(chain.lines()) > len(before)
    assert not list(chain.runs.glob(".verify-*"))


def test_a_stage_that_differs_by_one_byte_is_told_with_its_first_record(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run(seven())
    step: Any = find_stage("chain.step")
    honest = step.run

    def drifting(self: Any, ctx: Any) -> None:
        if ctx.config.name == "s4":
            import dataclasses

            class Drifting:
                config = dataclasses.replace(ctx.config, add=ctx.config.add + 1)

                def __getattr__(self, name: str) -> Any:
                    return getattr(ctx, name)

            honest(self, Drifting())
        else:
            honest(self, ctx)

    monkeypatch.setattr(step, "run", drifting)

    assert _verify(chain) == 3

    told = capsys.readouterr().out
    assert "first to diverge: s4.result: record 1 " in told
    verdicts = _verdicts(chain)
    assert [row["verdict"] for row in verdicts.values()] == [
        "bit-identical", "bit-identical", "bit-identical", "diverged", "diverged", "diverged", "bit-identical"
    ]  # fmt: skip


def test_a_store_that_holds_results_verifies_nothing(chain: Chain) -> None:
    chain.run(seven())

    assert _verify(chain, "--store", str(chain.store)) == 2
    with pytest.raises(SystemExit):
        main(["rerun"])


def test_answers_of_others_are_replayed_unless_they_are_to_be_paid(
    chain: Chain, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.run(seven())
    numbers: Any = find_stage("chain.numbers")
    monkeypatch.setattr(numbers, "determinism", "external")
    before = chain.lines()

    assert _verify(chain) == 0
    assert _verdicts(chain)["s1"]["verdict"] == "replayed"
    assert chain.lines()[len(before) :].count("numbers") == 0
    assert "1 replayed" in capsys.readouterr().out

    assert _verify(chain, "--pay") == 0
    assert _verdicts(chain)["s1"]["verdict"] == "bit-identical"


def test_answers_that_do_not_fit_are_never_asked_for_in_silence(
    chain: Chain, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chain.run(seven())
    numbers: Any = find_stage("chain.numbers")
    monkeypatch.setattr(numbers, "determinism", "external")
    monkeypatch.setattr(numbers, "version", 99)

    assert _verify(chain) != 0
    assert "cannot be replayed" in capsys.readouterr().err


def test_weights_that_are_only_pointed_to_are_not_taken_for_the_same(
    chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "model.bin").write_bytes(b"old")
    plain = recipe(lm={"uses": "chain.model", "with": {"weights": str(weights)}})
    archive = chain.run(plain).archive
    words = ["rerun", archive.name, "--verify", "--runs", str(chain.runs)]
    assert main(words) == 0

    for folder in (archive.folder / "inputs", weights):
        for file in folder.rglob("*.bin"):
            file.unlink()
            file.write_bytes(b"new")

    assert main(words) == 3
    assert "points to other files now" in capsys.readouterr().out


@settings(max_examples=50)
@given(st.floats(1e-3, 1e3), st.floats(0, 3))
def test_floats_agree_within_the_tolerance_and_nothing_else_does(
    value: float, times: float
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        old, new = Path(name, "old.jsonl"), Path(name, "new.jsonl")
        old.write_text(json.dumps({"id": "r", "nats": [value]}) + "\n", encoding="utf-8")
        new.write_text(
            json.dumps({"id": "r", "nats": [value * (1 + times * RELATIVE)]}) + "\n",
            encoding="utf-8",
        )
        if times < 0.99:
            assert max(_record_differences(old, new, {})) <= RELATIVE
        elif times > 1.01:
            with pytest.raises(Exception, match=r"record 1 r, nats\[0\]"):
                list(_record_differences(old, new, {}))


def test_tensors_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    tensors = {
        "a": torch.randn(3, 4), "b": torch.randn(5).to(torch.bfloat16), "c": torch.arange(6).reshape(2, 3),
    }  # fmt: skip
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})

    found = tensors_of(tmp_path / "x.safetensors")

    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert np.array_equal(found[name], tensor.double().numpy())
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "x.safetensors").read_bytes()[:40])
    with pytest.raises(KpodError, match="no whole safetensors file"):
        tensors_of(tmp_path / "torn.safetensors")


def test_every_stage_says_how_far_it_can_be_made_again() -> None:
    kinds = {uses: determinism_of(uses) for uses in STAGES if issubclass(find_stage(uses), Stage)}

    assert {uses for uses, kind in kinds.items() if kind == "external"} == {"teacher.openai"}
    assert all(
        kinds[uses] == "hardware" for uses in kinds if uses.startswith(("student.", "evaluate."))
    )
    assert all(
        find_stage(uses).seeded != "none" for uses, kind in kinds.items() if kind == "seeded"
    )  # type: ignore[union-attr]
    assert determinism_of("nobody.knows") == "unknown"


def test_two_long_texts_are_told_from_where_they_part() -> None:
    alike = "word " * 60
    left, right = _where_they_part(f"{alike}is 4 and more {alike}", f"{alike}is 5 and more {alike}")

    assert (len(left), len(right)) == (82, 82)
    assert "is 4 and" in left
    assert "is 5 and" in right
    assert _where_they_part("short", 3) == ('"short"', "3")
