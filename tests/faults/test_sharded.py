"""Weights spread over processes (FSDP2, on CPUs over gloo): the same training, the same files, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, StageError
from kpod.runner.launch_plan import launch_plan
from kpod.runner.launch_sharding import check_sharding_environment
from kpod.runner.recipe import Placement
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.processes import ranks
from kpod.stages.student._demand import Demand
from kpod.stages.student._loop import train
from kpod.stages.student._processes import Shards, team_of
from kpod.stages.student._settings import Config
from kpod.stages.student._shape import read_shape
from kpod.stages.student._sharded import is_in_pieces, load_sharded, whole_model
from kpod.stages.student._sharding import Sharding, check_shardable, sharding_asked
from kpod.stages.student._tally import Tally
from kpod.stages.student._validate import Validate
from kpod.stages.student._watch import Sums, Tell, Watch
from tests.chain import Chain
from tests.faults.many_and_one import trained_by_many_and_one
from tests.ranks import together
from tests.stages.fakes import FakeContext, FakePlacement
from tests.stages.tiny_models import Tiny, tiny_files
from tests.stages.tiny_training import EXAMPLES, training, whole

PROBE = (1, 2, 3)
# What accelerate's launcher sets.
TOLD = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
}
# Nine steps of a random T5 at 1e-2 are chaotic: in one process, other micro-batches alone move a logit at the end by 1e-2 (at 1e-3: 2e-5),
# and pieces by 1e-4 (1e-6). Measured on one thread of an AMD EPYC with avx512_bf16.
PEAK: dict[Tiny, float] = {"qwen3": 1e-2, "llama": 1e-2, "t5": 1e-3}
Trained = tuple[list[float], dict[str, torch.Tensor]]


def weights(model: Any) -> dict[str, torch.Tensor]:
    """What trained, and nothing in pieces."""
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    assert not any(is_in_pieces(value) for value in named.values())
    return {name: value.detach().clone() for name, value in named.items()}


def judge(student: Parts, tell: Tell) -> Sums:
    """A judge that looks at what the student holds through its own layers, as generation does."""
    with torch.inference_mode():
        ids = torch.tensor([PROBE])
        decoder = {"decoder_input_ids": ids} if student.encoder else {}
        return Sums(float(student.inner(input_ids=ids, **decoder).logits[0, -1, 7]), 1)


def trained(
    root: Path, *, method: str, tokens: int = 40, architecture: Tiny = "qwen3",
    stop_at: int | None = None, environment: dict[str, str] = TOLD,
) -> Trained:  # fmt: skip
    """The loss of every step that was told and, where this process has them whole, the weights at the end."""
    if ranks() is not None:
        os.environ |= environment
    ctx = FakeContext(config=None, root=root, stop_at=stop_at)
    team = team_of(FakePlacement(device="cpu"))
    is_checkpointing = environment.get("FSDP_ACTIVATION_CHECKPOINTING") == "true"

    def load() -> Parts:
        return whole(method, architecture, is_checkpointing=is_checkpointing)

    is_spread = isinstance(team, Shards)
    student = load_sharded(team, torch.device("cpu"), load, probe_ids=PROBE) if is_spread else load()  # type: ignore[arg-type]  # fmt: skip
    assert all(is_in_pieces(value) for value in student.model.parameters()) == is_spread
    watch = Watch(settings=Validate(), judge=judge, num=1)
    how = training(micro_batch_tokens=tokens, peak=PEAK[architecture])
    told: list[float] = []

    class Told:
        def after(self, done: Any, tally: Tally) -> dict[str, float]:
            told.extend((done.loss, *(one.value for one in tally.judgements)))
            return {}

    try:
        tally = train(ctx, student, EXAMPLES, how, team=team, monitor=Told(), watch=watch)  # type: ignore[arg-type]  # fmt: skip
    except Interrupted:
        return [*told, -1.0], {}
    model = whole_model(student, team) if is_spread else student.model  # type: ignore[arg-type]
    losses = [*told, float(tally.kept_step), *(one.value for one in tally.judgements)]
    return losses, weights(model) if team.is_first else {}


def check_equal(found: list[Trained], expected: Trained) -> None:
    losses, values = expected
    for told, _ in found:
        assert told == pytest.approx(losses, abs=1e-4)
    assert found[0][1].keys() == values.keys()
    for name, value in values.items():
        assert torch.allclose(found[0][1][name], value, atol=1e-4), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "tokens", "size", "architecture", "environment"),
    [
        ("lora", 4096, 2, "qwen3", TOLD),
        ("full", 40, 2, "qwen3", TOLD),
        ("full", 40, 4, "qwen3", {**TOLD, "FSDP_RESHARD_AFTER_FORWARD": "false", "FSDP_TRANSFORMER_CLS_TO_WRAP": "Qwen3DecoderLayer"}),
        ("lora", 40, 2, "qwen3", {**TOLD, "FSDP_ACTIVATION_CHECKPOINTING": "true"}),
        ("full", 40, 2, "llama", {**TOLD, "FSDP_AUTO_WRAP_POLICY": "NO_WRAP"}),
        ("full", 40, 2, "t5", TOLD),
    ],
)  # fmt: skip
def test_weights_in_pieces_train_as_whole_ones_do(  # noqa: PLR0917 - cases
    tmp_path: Path, method: str, tokens: int, size: int, architecture: Tiny, environment: dict[str, str]
) -> None:  # fmt: skip
    """Nine steps of 5, 5 and 2 examples: where a process has none, it must compute all the same."""
    expected = trained(tmp_path / "alone", method=method, tokens=tokens, architecture=architecture)

    def work(_rank: int) -> Trained:
        return trained(
            tmp_path / "many", method=method, tokens=tokens, architecture=architecture, environment=environment
        )  # fmt: skip

    check_equal(together(size, work, tmp_path), expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_stopped_training_in_pieces_goes_on_in_pieces_and_in_one_process(
    tmp_path: Path, method: str
) -> None:
    whole_losses, values = trained(tmp_path / "alone", method=method)
    stop_at: int | None = 4

    def work(rank: int) -> Trained:
        own = stop_at if rank == 0 else None
        return trained(tmp_path / "two", method=method, stop_at=own)

    stopped = together(2, work, tmp_path)[0][0][:-1]
    (tmp_path / "two").rename(tmp_path / "kept")
    for name in ("two", "one"):
        for path in (tmp_path / "kept").rglob("*"):
            target = tmp_path / name / path.relative_to(tmp_path / "kept")
            if path.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    stop_at = None

    rest = (whole_losses[len(stopped) :], values)
    assert stopped == pytest.approx(whole_losses[: len(stopped)], abs=1e-4)
    check_equal(together(2, work, tmp_path), rest)
    check_equal([trained(tmp_path / "one", method=method)], rest)


def accelerate_config(folder: Path, **settings: Any) -> str:
    """As `accelerate config` writes it."""
    fsdp = {
        "fsdp_version": 2, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP", "fsdp_reshard_after_forward": True,
        "fsdp_transformer_layer_cls_to_wrap": "Qwen3DecoderLayer", "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT", "fsdp_offload_params": False, "fsdp_activation_checkpointing": False,
    }  # fmt: skip
    path = folder / "fsdp.json"
    config = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "FSDP", "num_processes": 2, "num_machines": 1,
        "mixed_precision": "no", "use_cpu": True, "fsdp_config": {**fsdp, **settings},
    }  # fmt: skip
    path.write_text(json.dumps(config), encoding="utf-8")
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_student_of_an_accelerate_config_with_fsdp_is_that_of_one_process(
    chain: Chain, method: str
) -> None:
    """Judged by its answers after each epoch."""
    placed = {"device": "cpu", "accelerate": accelerate_config(chain.folder, fsdp_transformer_layer_cls_to_wrap=None)}  # fmt: skip

    told, notes = trained_by_many_and_one(
        chain, placed, method=method, inputs={"validation": "questions.validation"}, validate={"max_new_tokens": 16}
    )  # fmt: skip

    assert told["weights_spread_over_processes"] == 2
    assert told["validation"] == notes["validation"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"fsdp_version": 1}, "fsdp_version: 1, which students are not trained with\nallowed: fsdp_version: 2"),
        ({"fsdp_offload_params": True}, "fsdp_offload_params: True, .*\nallowed: fsdp_offload_params: false"),
        ({"fsdp_state_dict_type": "SHARDED_STATE_DICT"}, "\nallowed: fsdp_state_dict_type: FULL_STATE_DICT"),
        ({"fsdp_auto_wrap_policy": "SIZE_BASED_WRAP"}, "\nallowed: fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP or NO_WRAP"),
        ({"fsdp_use_orig_params": True}, "has fsdp_use_orig_params in its fsdp_config, which a student does not read"),
    ],
)  # fmt: skip
def test_what_fsdp_does_and_students_do_not_is_refused(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(StageError, match=told):
        launch_plan(Placement(accelerate=accelerate_config(tmp_path, **settings)))


def test_an_accelerate_config_with_fsdp_2_is_launched_as_such(tmp_path: Path) -> None:
    plan = launch_plan(Placement(accelerate=accelerate_config(tmp_path)))

    assert plan.num_processes == 2
    assert "--use_fsdp" in plan.words
    assert "--multi_gpu" not in plan.words


def test_a_launcher_that_was_told_another_fsdp_is_refused() -> None:
    check_sharding_environment(TOLD)

    with pytest.raises(
        StageError, match=r"the launcher's config has distributed_type: FSDP with fsdp_version: 1"
    ):
        check_sharding_environment({**TOLD, "FSDP_VERSION": "1"})


def test_what_the_launcher_tells_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sharding_asked(TOLD) is None  # this process stands alone

    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)

    assert sharding_asked(TOLD) == Sharding(blocks=(), is_loaded_in_turn=True)
    assert sharding_asked({"ACCELERATE_USE_FSDP": "true"}) == Sharding(blocks=None)
    assert sharding_asked({}) is None


@pytest.mark.parametrize("settings", [{"precision": "nf4"}, {"optimizer": "adamw_8bit"}])
def test_weights_in_pieces_are_neither_quantised_nor_have_quantised_moments(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(StageError, match=r"spread over processes \(FSDP\)"):
        check_shardable(Config(**settings), by="FSDP")


def test_each_of_four_processes_is_forecast_a_quarter_and_what_it_gathers() -> None:
    files = tiny_files()
    alone = Demand(
        shape=read_shape(files.weights, files.spec), config=Config(method="full", precision="fp32"),
        micro_batch_tokens=64, is_checkpointing=False, longest=32, device="cuda",
    )  # fmt: skip

    whole, part = alone.memory, replace(alone, num_shards=4).memory

    assert part.moments == whole.moments // 4
    assert whole.weights / 4 < part.weights <= whole.weights
    assert part.activations == whole.activations
    assert part.total < whole.total


def test_a_layer_that_the_model_does_not_have_is_told_with_those_it_has(tmp_path: Path) -> None:
    def work(_rank: int) -> str:
        environment = {**TOLD, "FSDP_TRANSFORMER_CLS_TO_WRAP": "LlamaDecoderLayer"}
        try:
            trained(tmp_path, method="full", environment=environment)
        except StageError as error:
            return str(error)
        return ""

    tiny_files()
    told = together(2, work, tmp_path)

    assert told[0] == told[1]
    assert told[0] == (
        "fsdp_transformer_layer_cls_to_wrap names LlamaDecoderLayer, and Qwen3ForCausalLM has no such layers\n"
        "allowed: Qwen3DecoderLayer, or fsdp_auto_wrap_policy: NO_WRAP"
    )
