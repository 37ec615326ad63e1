"""How many processes a placement means, what is refused before anything starts, and that none of it names a result."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import RecipeError, StageError
from kpod.runner import launch_plan as launch_plan_module
from kpod.runner.archive import Archive
from kpod.runner.canonical import digest_of
from kpod.runner.capability import read_capability
from kpod.runner.interrupt import StopRequest
from kpod.runner.launch import check_placement, is_launched
from kpod.runner.launch_plan import launch_plan, num_cuda_devices
from kpod.runner.liveness import Process
from kpod.runner.recipe import Placement, load_recipe
from kpod.runner.remote import Result, Task, remote_context, task_of
from tests.chain import Chain, recipe, step

CREW = str(Path(__file__).parents[1] / "crew")


@pytest.fixture
def crew(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    """A chain whose last stage can be split among processes."""
    from kpod.runner import registry

    monkeypatch.syspath_prepend(CREW)
    for name in dir(registry):
        if hasattr(getattr(registry, name), "cache_clear"):
            getattr(registry, name).cache_clear()
    yield chain
    for name in dir(registry):
        if hasattr(getattr(registry, name), "cache_clear"):
            getattr(registry, name).cache_clear()
    sys.modules.pop("kpod_crew.pull", None)


def pulled(**placement: Any) -> dict[str, Any]:
    plain = recipe(
        s1={"uses": "chain.numbers", "with": {"count": 5}},
        s2=step("s1", "s2"),
        pull={"uses": "crew.pull", "in": {"questions": "s2"}},
    )
    return {**plain, "placement": placement} if placement else plain


def config_file(folder: Path, **settings: Any) -> str:
    path = folder / "accelerate.json"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return str(path)


def test_the_default_number_of_processes_is_for_stages_that_can_be_split(crew: Chain) -> None:
    path = crew.write(pulled(default={"processes": 2, "threads": 1, "accelerate": "a.yaml"}))

    stages = load_recipe(path).stages

    assert stages["s2"].placement == Placement(threads=1)
    assert stages["pull"].placement == Placement(
        threads=1, processes=2, accelerate=str(crew.folder / "a.yaml")
    )


def test_several_processes_for_a_stage_that_cannot_be_split_are_a_mistake_in_the_recipe(
    crew: Chain,
) -> None:
    path = crew.write(pulled(stages={"s2": {"processes": 2}, "pull": {"processes": 2}}))

    with pytest.raises(
        RecipeError, match=r"got processes: 2, but chain.step runs in one process"
    ) as raised:
        load_recipe(path)

    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].path == "placement.stages.s2.processes"
    assert "allowed: stages that can be split among processes" in str(raised.value)


def test_a_number_of_processes_is_at_least_one(crew: Chain) -> None:
    path = crew.write(pulled(stages={"pull": {"processes": 0}}))

    with pytest.raises(
        RecipeError, match=r"got 0, but placement.stages.pull.processes .* must be >= 1"
    ):
        load_recipe(path)


def test_the_resolved_recipe_gives_the_same_placements_from_any_folder(crew: Chain) -> None:
    stages = {"pull": {"processes": 3, "accelerate": "a.yaml"}, "s1": {"threads": 2}}
    first = load_recipe(crew.write(pulled(default={"device": "cpu"}, stages=stages)))
    (crew.folder / "elsewhere").mkdir()
    other = Chain(folder=crew.folder / "elsewhere", journal=crew.journal)

    second = load_recipe(other.write(first.resolved()))

    assert {s.id: s.placement for s in first.stages.values()} == {
        s.id: s.placement for s in second.stages.values()
    }
    assert first.resolved()["placement"]["stages"]["s1"] == {"device": "cpu", "threads": 2}


def test_no_placement_is_part_of_a_key(crew: Chain) -> None:
    def keys(**placement: Any) -> list[str | None]:
        session = crew.session(pulled(**placement))
        return [found.key for found in session.planner.plan()]

    crew.run(pulled())
    expected = keys()

    assert None not in expected
    assert expected == keys(default={"processes": 2, "device": "cpu", "threads": 7})
    assert expected == keys(stages={"pull": {"processes": 4, "accelerate": "a.yaml"}})


def test_more_processes_than_processors_are_refused_before_anything_is_run(crew: Chain) -> None:
    have = read_capability().num_cpus
    placed = pulled(stages={"pull": {"processes": have + 1, "device": "cpu"}})

    with pytest.raises(
        StageError,
        match=f"placement.processes is {have + 1}, but this machine has {have} processors",
    ):
        crew.run(placed)

    assert crew.executions() == []


def test_a_stored_result_needs_no_processes(crew: Chain) -> None:
    crew.run(pulled())

    assert crew.run(pulled(stages={"pull": {"processes": 99}})).executed == []


def test_more_processes_than_cuda_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")

    with pytest.raises(
        StageError, match=r"placement.processes is 2, but this machine has 1 CUDA devices"
    ):
        launch_plan(Placement(device="cuda", processes=2))
    assert num_cuda_devices() == 1


@pytest.mark.parametrize(
    ("settings", "placement", "told"),
    [
        ({"distributed_type": "FSDP", "num_processes": 2}, {}, r"has distributed_type: FSDP with fsdp_version: 1, which students are not trained with"),
        ({"distributed_type": "MEGATRON_LM"}, {}, r"distributed_type: MEGATRON_LM.*\nallowed: .*, or DEEPSPEED\n"),
        ({"num_machines": 2}, {}, r"num_machines: 2, but kpod starts processes on one machine"),
        ({"num_processes": "two"}, {}, r"num_processes: two, and must have an integer >= 1"),
        ({"num_processes": 2}, {"processes": 3}, r"num_processes: 2, and placement.processes is 3"),
        ({"use_cpu": True}, {"device": "cuda"}, r"placement.device is cuda, but .* says use_cpu"),
    ],
)  # fmt: skip
def test_an_accelerate_config_that_asks_for_something_else_is_refused(
    tmp_path: Path, settings: dict[str, Any], placement: dict[str, Any], told: str
) -> None:
    with pytest.raises(StageError, match=told):
        launch_plan(Placement(accelerate=config_file(tmp_path, **settings), **placement))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: no such file or directory"),
        ("a: [", "is no YAML or JSON"),
        ("- 1", "holds list, and must hold a mapping"),
    ],
)
def test_an_accelerate_config_that_cannot_be_read_is_named(
    tmp_path: Path, text: str | None, told: str
) -> None:
    path = tmp_path / "accelerate.yaml"
    if text is not None:
        path.write_text(text, encoding="utf-8")

    with pytest.raises(StageError, match=told) as raised:
        launch_plan(Placement(accelerate=str(path)))

    assert str(path) in str(raised.value)


def test_an_accelerate_config_says_how_many(tmp_path: Path) -> None:
    have = read_capability().num_cpus
    path = config_file(tmp_path, distributed_type="MULTI_CPU", num_processes=have)

    plan = launch_plan(Placement(accelerate=path, threads=3))

    assert plan.num_processes == have
    assert plan.device == "cpu"
    if have > 1:
        assert plan.words[1:3] == ("--config_file", path)
        assert plan.words[-1] == "3"


@pytest.mark.parametrize(("said", "told"), [({}, "no"), ({"mixed_precision": False}, "no"), ({"mixed_precision": "fp16"}, "fp16")])  # fmt: skip
def test_the_processes_hear_which_mixed_precision_an_accelerate_config_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], told: str
) -> None:
    """On a machine with one processor as well."""
    monkeypatch.setattr(launch_plan_module, "check_machine", lambda *_, **__: None)
    path = config_file(tmp_path, distributed_type="MULTI_CPU", num_processes=2, **said)

    words = launch_plan(Placement(accelerate=path)).words

    assert words[words.index("--mixed_precision") + 1] == told


def test_who_was_launched_leaves_the_number_to_the_launcher(
    crew: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = crew.write(pulled(stages={"pull": {"processes": 3}}))
    stage = load_recipe(path).stages["pull"]
    assert not is_launched()
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)

    assert is_launched()
    with pytest.raises(
        StageError, match="a launcher started 2 processes, but the placement asks for processes: 3"
    ):
        check_placement(stage)
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(
        StageError, match="the launcher's config has distributed_type: FSDP with fsdp_version: 1"
    ):
        check_placement(stage)


def test_another_process_is_given_the_same_context(crew: Chain, tmp_path: Path) -> None:
    session = crew.session(pulled(stages={"pull": {"threads": 1}}))
    session.run()
    from kpod.runner.events import Events
    from kpod.runner.execute import Execution

    execution = Execution(session.planner, Events(None), StopRequest(), "run")
    for stage, ctx in execution.contexts("pull"):
        told = task_of(ctx, tmp_path, parent=Process.this())
        other = remote_context(Task.from_json(told.to_json()), rank=0, stop=StopRequest())

        assert told == Task.from_json(told.to_json())
        assert other.config == ctx.config
        assert (other.seed, other.key, other.placement) == (ctx.seed, ctx.key, ctx.placement)
        assert (other.checkpoint, other.draft) == (ctx.checkpoint, ctx.draft)
        assert list(other.read(stage.questions)) == list(ctx.read(stage.questions))  # type: ignore[attr-defined]
        bystander = remote_context(told, rank=1, stop=StopRequest())
        with (
            pytest.raises(FileNotFoundError),
            bystander.write(stage.result),  # type: ignore[attr-defined]
        ):
            pass


def test_a_result_comes_back_as_it_was(crew: Chain) -> None:
    archive: Archive = crew.run(pulled()).archive
    manifest = archive.units["pull"].manifest
    result = Result(status="done", outputs=manifest.outputs, notes={"a": 1}, refers=("x",))

    assert Result.from_json(result.to_json()) == result
    assert digest_of(json.loads(result.to_json())["outputs"]["result"]["files"][0]["path"])


def test_a_process_that_ended_or_whose_number_is_another_s_now_is_not_alive() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    this = Process.this()
    os.waitpid(child, 0)

    assert this.is_alive()
    assert not Process(host=this.host, pid=child, started=this.started).is_alive()
    assert not Process(host=this.host, pid=this.pid, started="1").is_alive()
    assert Process(host="another", pid=child, started="1").is_alive()
