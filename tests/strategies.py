"""Strategies of hypothesis that several tests share: recipes of the test plug-in, and settings."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

names = st.text("abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=6)


@st.composite
def chains(draw: st.DrawFn) -> dict[str, Any]:
    """A recipe: numbers, some steps behind them or behind each other, and a count of several of them."""
    ids = ["first"]
    stages: dict[str, Any] = {
        "first": {"uses": "chain.numbers", "with": {"count": draw(st.integers(0, 9))}}
    }
    for number in range(draw(st.integers(1, 5))):
        settings = {
            "add": draw(st.integers(-9, 9)),
            "modulo": draw(st.none() | st.integers(1, 9)),
            "name": draw(names),
        }
        source = draw(st.sampled_from(ids))
        ids.append(f"step{number}")
        stages[ids[-1]] = {"uses": "chain.step", "in": {"questions": source}, "with": settings}
    counted = draw(st.lists(st.sampled_from(ids), min_size=1, max_size=3, unique=True))
    stages["last"] = {"uses": "chain.count", "in": {"questions": counted}}
    return {"kpod": 1, "name": "drawn", "seed": draw(st.integers(0, 99)), "stages": stages}


@st.composite
def shuffled(draw: st.DrawFn, value: Any) -> Any:
    """The same data with every mapping in another order."""
    if isinstance(value, dict):
        keys = draw(st.permutations(list(value)))
        return {key: draw(shuffled(value[key])) for key in keys}
    return value


def renamed(recipe: dict[str, Any], new_name: dict[str, str]) -> dict[str, Any]:
    """The recipe with other ids of stages."""

    def source(item: Any) -> Any:
        return [new_name[name] for name in item] if isinstance(item, list) else new_name[item]

    stages = {
        new_name[stage_id]: {**stage, **({"in": {k: source(v) for k, v in stage["in"].items()}} if "in" in stage else {})}
        for stage_id, stage in recipe["stages"].items()
    }  # fmt: skip
    return {**recipe, "stages": stages}
