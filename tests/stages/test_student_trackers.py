"""What trackers are told of a training, what goes on after an interruption, and what the real ones keep."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from kpod.runner import Interrupted, MissingExtra
from kpod.stages._lm.parts import Parts
from kpod.stages.student import _trackers
from kpod.stages.student._adapter import Lora
from kpod.stages.student._loop import train
from kpod.stages.student._monitor import Monitor, monitoring
from kpod.stages.student._settings import Config
from kpod.stages.student._step import Step
from kpod.stages.student._tally import Judgement, Tally
from kpod.stages.student._trackers import check_trackers, flat_settings, trackers_of
from tests.stages.fakes import FakeContext
from tests.stages.tiny_training import EXAMPLES, fresh, training, weights

STEP = Step(2.0, 10.0, 10, 40, 48, 0.5, 1e-3)


@dataclass
class Kept:
    """A tracker of the tests."""

    run: str | None
    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    settings: dict[str, Any] | None = None
    is_closed: bool = False

    def start(self) -> None: ...

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.settings = values

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.is_closed = True


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> list[Kept]:
    """Every run of a tracker that was opened; TensorBoard's place is taken."""
    found: list[Kept] = []

    def opened(folder: Path, name: str, run: str | None, step: int) -> Kept:
        found.append(Kept(run))
        return found[-1]

    monkeypatch.setitem(_trackers._OPENERS, "tensorboard", opened)
    return found


def trained(root: Path, *, stop_at: int | None = None) -> Parts:
    """Nine steps told to TensorBoard."""
    ctx = FakeContext(config=Config(trackers=("tensorboard",)), root=root, seed=7, stop_at=stop_at)
    student = fresh()
    with monitoring(ctx, student, training()) as monitor:
        train(ctx, student, EXAMPLES, training(), monitor=monitor)
    return student


def test_trackers_hear_of_every_step_and_of_the_settings(tmp_path: Path, kept: list[Kept]) -> None:
    trained(tmp_path)

    (run,) = kept
    assert [step for step, _ in run.rows] == list(range(1, 10))
    assert all(set(v) == {"loss", "learning_rate", "grad_norm", "tokens_per_s"} for _, v in run.rows)  # fmt: skip
    assert run.settings is not None
    assert run.settings["lora.rank"] == 16
    assert run.settings["seed"] == 7
    assert run.is_closed


def test_a_tracked_training_ends_with_the_same_weights(tmp_path: Path, kept: list[Kept]) -> None:
    tracked = weights(trained(tmp_path / "tracked"))
    ctx = FakeContext(config=None, root=tmp_path / "plain")
    student = fresh()
    train(ctx, student, EXAMPLES, training())

    assert all(torch.equal(tracked[name], value) for name, value in weights(student).items())


def test_a_training_that_goes_on_is_the_same_run_and_its_steps_go_on(
    tmp_path: Path, kept: list[Kept]
) -> None:
    with pytest.raises(Interrupted):
        trained(tmp_path, stop_at=4)
    trained(tmp_path)

    first, second = kept
    assert (first.run, second.run) == (None, "tensorboard")
    assert [step for run in kept for step, _ in run.rows] == list(range(1, 10))
    assert second.settings is None
    assert first.is_closed


def test_a_run_whose_files_are_gone_is_begun_anew(tmp_path: Path, kept: list[Kept]) -> None:
    with pytest.raises(Interrupted):
        trained(tmp_path, stop_at=4)
    memory = tmp_path / "checkpoint" / "trackers.json"
    row = json.loads(memory.read_text(encoding="utf-8"))
    memory.write_text(json.dumps({**row, "folder": str(tmp_path / "gone")}), encoding="utf-8")
    trained(tmp_path)

    assert [run.run for run in kept] == [None, None]


def test_a_judgement_is_told_once_under_the_step_it_was_made_after(
    tmp_path: Path, kept: list[Kept]
) -> None:
    ctx = FakeContext(config=Config(trackers=("tensorboard",)), root=tmp_path)
    tally = Tally(judgements=[Judgement(epoch=1, step=3, value=0.5)])
    monitor = Monitor(trackers=trackers_of(ctx, device="cpu"))
    for step in (9, 10):
        tally.step = step
        monitor.after(STEP, tally)
    tally.judgements.append(Judgement(epoch=2, step=10, value=0.75))
    monitor.close()

    told = [(step, v["validation_accuracy"]) for step, v in kept[0].rows if "loss" not in v]
    assert told == [(10, 0.75)]


def test_settings_are_flat_values_without_a_path() -> None:
    flat = flat_settings(Config(lora=Lora(targets=("q_proj", "v_proj"))), seed=3)

    assert flat["lora.targets"] == '["q_proj", "v_proj"]'
    assert flat["validate.metric"] == "accuracy"
    assert all(isinstance(value, bool | int | float | str | None) for value in flat.values())
    assert not any("/" in str(value) for value in flat.values())


def test_a_tracker_that_is_not_installed_is_asked_for_before_anything_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_trackers, "find_spec", lambda name: None)

    with pytest.raises(
        MissingExtra, match=r"student\.causal_lm trackers: \[wandb\] needs .*wandb.*\n.*kpod\[trackers\]"
    ):  # fmt: skip
        check_trackers(("wandb",), needed_by="student.causal_lm trackers")


def test_a_folder_that_a_tracker_left_is_no_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))

    with pytest.raises(MissingExtra, match="wandb"):
        check_trackers(("wandb",), needed_by="student.causal_lm trackers")


def real(name: str) -> None:
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed (pip install kpod[trackers])")


def stopped_and_continued(root: Path, name: Any) -> Path:
    """Nine steps in two attempts, told to a real tracker; the folder of its files."""
    config = Config(trackers=(name,))
    for stop_at in (4, None):
        ctx = FakeContext(config=config, root=root, stop_at=stop_at)
        student = fresh()
        try:
            with monitoring(ctx, student, training()) as monitor:
                train(ctx, student, EXAMPLES, training(), monitor=monitor)
        except Interrupted:
            assert stop_at
    return ctx.logs


def test_tensorboard_s_files_hold_one_run_of_all_steps(tmp_path: Path) -> None:
    real("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = stopped_and_continued(tmp_path, "tensorboard")

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert [one.step for one in events.Scalars("loss")] == list(range(1, 10))
    assert {"learning_rate", "grad_norm", "tokens_per_s"} <= set(events.Tags()["scalars"])


def test_mlflow_s_files_hold_one_run_of_all_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    folder = stopped_and_continued(tmp_path, "mlflow")

    (loss,) = folder.glob("mlflow/*/*/metrics/loss")
    steps = [int(line.split()[2]) for line in loss.read_text(encoding="utf-8").splitlines()]
    assert steps == list(range(1, 10))
    assert (loss.parents[1] / "params" / "lora.rank").read_text(encoding="utf-8") == "16"
    assert (loss.parents[1] / "tags" / "mlflow.source.name").read_text("utf-8") == "kpod"


def test_wandb_writes_offline_files_of_one_run_that_name_no_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    folder = stopped_and_continued(tmp_path, "wandb")

    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    assert len({path.name for path in files}) == 1
    held = b"".join(path.read_bytes() for path in files)
    assert b"grad_norm" in held
    assert str(Path.cwd()).encode() not in held
