"""What is wrong with a plug-in's settings, inputs and outputs is told when it is named, and by its name: nobody else's tests look at them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from kpod.runner import registry
from kpod.runner.registry import BrokenPlugin, find_stage

STAGE = """\
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from kpod.runner import Doc, Ge, Input, Le, Output, Rationale, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    share: {setting}
    needed: int


class Mine(Stage[Config]):
    uses = "filter.mine"
    rationales = Input(Rationale)
    kept = Output(Rationale)
"""
GOOD = 'Annotated[float, Doc("A share.")] = 0.5'


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[str]:  # fmt: skip
    """The name of an installed plug-in, whose module is called as the test's number."""
    module = f"mine_{request.node.callspec.id}"
    (tmp_path / f"{module}.py").write_text(STAGE.format(setting=request.param), encoding="utf-8")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        f"[kpod.stages]\nfilter.mine = {module}:Mine\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry._plugins.cache_clear()
    find_stage.cache_clear()
    yield "filter.mine"
    registry._plugins.cache_clear()
    find_stage.cache_clear()


@pytest.mark.parametrize(
    ("named", "told"),
    [
        pytest.param('Annotated[flaot, Doc("A share.")] = 0.5', "name 'flaot' is not defined", id="name"),
        pytest.param('Annotated[set, Doc("A share.")] = None', "share: a setting cannot be of type", id="type"),
        pytest.param('Annotated[float, Doc("A share.")] = "half"', "share: its default 'half' is none that a recipe could write", id="text"),
        pytest.param('Annotated[float, Doc("A share."), Ge(0), Le(1)] = 2.0', "share: its default 2.0 is none", id="bound"),
        pytest.param('Annotated[float, Doc("A share.")] = None', "share: its default None is none", id="none"),
    ],
    indirect=["named"],
)  # fmt: skip
def test_settings_that_cannot_be_are_told_with_the_stages_name(named: str, told: str) -> None:
    with pytest.raises(BrokenPlugin, match=r"'filter\.mine' cannot be used: .*Mine") as error:
        find_stage(named)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "named",
    [pytest.param('Annotated[float | None, Doc("A share."), Ge(0), Le(1)] = None', id="good")],
    indirect=True,
)
def test_settings_that_can_be_are_taken(named: str) -> None:
    assert find_stage(named).uses == "filter.mine"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("    rationales = Output(Rationale)\n", "rationales is the name of an input and of an output"),
        ("    best = Output(Rationale, refines='rationale')\n", "best: refines 'rationale', which is none of its inputs (rationales)"),
        ("    budget = Input(Rationale, optional=True, replaces=('epochs',))\n", "budget: replaces 'epochs', which is none of its settings (needed, share)"),
    ],
)  # fmt: skip
def test_inputs_and_outputs_that_cannot_be_are_told_with_the_stages_name(
    more: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first as an author meets it: a class below kpod's own, with an output called as an input there."""
    text = STAGE.format(setting=GOOD)
    body = f'class Better(Mine):\n    uses = "filter.mine"\n{more}'
    module = f"better_{hashlib.sha256(more.encode()).hexdigest()[:8]}"
    (tmp_path / f"{module}.py").write_text(f"{text}\n\n{body}", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_plugins", lambda: {"filter.mine": f"{module}:Better"})
    find_stage.cache_clear()

    with pytest.raises(BrokenPlugin, match=r"'filter\.mine' cannot be used: .*Better") as error:
        find_stage("filter.mine")
    find_stage.cache_clear()

    assert told in str(error.value)
