"""Settings turned into Config objects and back, and that the loader and the schema give one answer."""

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpod.runner import (
    Doc,
    Ge,
    Gt,
    Le,
    LocalPath,
    Lt,
    MinItems,
    Pattern,
    RecipeError,
    SettingError,
    Volatile,
)
from kpod.runner.config import build_config, config_to_json, keyed_settings, local_path_fields
from kpod.runner.document import Mapping, Node, dump, find, parse_document
from kpod.runner.schema import config_schema, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    start: Annotated[int, Doc("First."), Ge(0)] = 0
    end: Annotated[int, Doc("Last."), Ge(0)] = 9
    file: Annotated[str | None, LocalPath()] = None
    log: Annotated[bool, Volatile()] = False

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise SettingError(
                "end", f"got {self.end}, which lies before start ({self.start})", hint="swap them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    word: Annotated[str, Pattern("^[a-c]*$", "letters a to c")]
    count: Annotated[int, Ge(0), Lt(5)] = 1
    share: Annotated[float, Gt(0), Le(1)] = 0.5
    is_on: bool = False
    mode: Literal["x", "y", 2, True] = "x"
    size: Annotated[int | Literal["auto"] | None, Ge(1)] = "auto"
    names: Annotated[tuple[str, ...], MinItems(1)] = ("q",)
    grid: tuple[tuple[float, ...], ...] = ()
    maybe: tuple[int | None, ...] | None = None
    columns: dict[str, Annotated[int, Ge(0)]] = field(default_factory=dict)
    part: Part = Part()
    parts: dict[str, Part] = field(default_factory=dict)
    files: Annotated[tuple[str, ...], LocalPath(), Volatile()] = ()
    either: Annotated[float | Literal["all"], Gt(0)] = "all"


SCHEMA = config_schema(Config, title="t", description="d")
ORDERED = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted)
part_data = ORDERED.map(lambda ends: {"start": ends[0], "end": ends[1]})

# for each setting values that fit, values at the edges, and values that cannot fit
odd = st.sampled_from(
    [None, True, False, 0, 1, 2, 5, -1, 0.0, 1.0, 3.0, 2.5, 10**400, 1e308, float("inf"), float("nan"), "", "a", "z",
     "auto", "all", [], ["q"], [1], [None], [[1, 2.0]], [[True]], {}, {"a": 1}, {"a": 1.0}, {"a": -1}, {"start": 3}, {"nope": 1}]
)  # fmt: skip
good: dict[str, st.SearchStrategy[Any]] = {
    "word": st.text("abc", max_size=3),
    "count": st.integers(0, 4) | st.sampled_from([0.0, 4.0]),
    "share": st.floats(0, 1, exclude_min=True) | st.just(1),
    "is_on": st.booleans(),
    "mode": st.sampled_from(["x", "y", 2, 2.0, True]),
    "size": st.integers(1) | st.sampled_from(["auto", None, 3.0]),
    "names": st.lists(st.text(max_size=3), min_size=1, max_size=3),
    "grid": st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3), max_size=2), max_size=2),
    "maybe": st.none() | st.lists(st.none() | st.integers(), max_size=3),
    "columns": st.dictionaries(st.text(max_size=3), st.integers(0), max_size=2),
    "part": part_data,
    "parts": st.dictionaries(st.text(max_size=3), part_data, max_size=2),
    "files": st.lists(st.text(max_size=3), max_size=2),
    "either": st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 9) | st.just("all"),
}  # fmt: skip
others = {name: value for name, value in good.items() if name != "word"}
fitting = st.fixed_dictionaries({"word": good["word"]}, optional=others)
mixed = st.fixed_dictionaries(
    {}, optional={name: value | odd for name, value in good.items()} | {"nope": st.just(1)}
)


def located(data: dict[str, Any]) -> Node:
    return parse_document(dump(data), file="r.yaml") if data else Mapping({}, parse_document("a", file="r.yaml").position)  # fmt: skip


def builds(data: dict[str, Any]) -> bool:
    try:
        build_config(Config, data, node=None, path="")
    except RecipeError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(fitting)
def test_a_config_survives_the_way_to_json_and_back(data: dict[str, Any]) -> None:
    config = build_config(Config, data, node=None, path="")

    written = config_to_json(config)

    assert build_config(Config, written, node=None, path="") == config
    assert [*written] == [field.name for field in fields(Config)]
    assert validate(located(written), SCHEMA, path="", subject="x") == []


@settings(max_examples=250, deadline=None)
@given(mixed | fitting)
@example({"word": "a\n"})
@example({"word": "a", "mode": 1})
@example({"word": "a", "either": True})
@example({"word": "a", "count": 10**400})
@example({"word": "a", "share": 10**400})
def test_the_schema_accepts_exactly_what_the_loader_accepts(data: dict[str, Any]) -> None:
    try:
        node = located(data)
    except RecipeError:  # an integer too long to be written
        from kpod.runner import Position
        from kpod.runner.node import located as at

        node = at(data, Position("r.yaml"))

    refused_by_schema = validate(node, SCHEMA, path="", subject="x")

    is_unsettled = "start" in str(data) and not refused_by_schema
    assert builds(data) == (not refused_by_schema) or is_unsettled


def test_values_take_the_type_of_their_field() -> None:
    data = {"word": "a", "count": 3.0, "share": 1, "size": 2.0, "grid": [[1, 2.5]], "mode": 2.0, "part": {"end": 4}, "parts": {"a": {}}}  # fmt: skip

    actual = build_config(Config, data, node=None, path="")

    assert actual == Config(word="a", count=3, share=1.0, size=2, grid=((1.0, 2.5),), mode=2, part=Part(end=4), parts={"a": Part()})  # fmt: skip
    values = (actual.count, actual.share, actual.size, actual.grid[0][0], actual.mode)
    assert [type(value) for value in values] == [int, float, int, float, int]


def test_data_that_does_not_fit_is_told_as_the_schema_tells_it() -> None:
    text = "count: 7\nparts: {a: {start: -1}}"
    node = parse_document(text, file="r.yaml")
    data = {"count": 7, "parts": {"a": {"start": -1}}}

    with pytest.raises(RecipeError, match="3 errors; nothing was run") as raised:
        build_config(Config, data, node=node, path="stages.s.with", subject="kind.method")

    assert list(raised.value.problems) == validate(node, SCHEMA, path="stages.s.with", subject="kind.method")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("word: a\npart: {start: 5,\n  end: 2}", "r.yaml:3:8  s.with.part.end\n  end: got 2, which lies before start (5)\n  swap them\n"),
        ("word: a\npart: {start: 15}", "r.yaml:2:7  s.with.part.end\n  end: got 9, which lies before start (15)\n  swap them\n"),
        ("word: a\nparts:\n  b: {start: 5, end: 2}", "r.yaml:3:22  s.with.parts.b.end\n  end: got 2, which lies"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together_are_told_at_the_setting_or_around_it(
    text: str, said: str
) -> None:
    node = parse_document(text, file="r.yaml")
    from kpod.runner.document import plain

    with pytest.raises(RecipeError, match="1 error; nothing was run") as raised:
        build_config(Config, plain(node), node=node, path="s.with")

    assert str(raised.value).startswith(said)
    assert find(node, ["word"]) is not None


def test_settings_that_do_not_go_together_are_told_without_positions_too() -> None:
    with pytest.raises(RecipeError, match="which lies before start") as raised:
        build_config(Part, {"start": 5, "end": 2}, node=None, path="")

    assert str(raised.value).startswith("end\n  end: got 2")


def test_volatile_settings_and_local_paths_are_found_inside_others_too() -> None:
    config = build_config(Config, {"word": "a", "parts": {"one": {}}}, node=None, path="")
    kept = keyed_settings(config)
    assert "files" not in kept
    assert "log" not in kept["part"]
    assert "log" not in kept["parts"]["one"]
    assert local_path_fields(Config) == ("part.file", "parts.*.file", "files.*")


def test_reading_and_building_import_neither_the_validator_nor_anything_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, kpod.runner.document, kpod.runner.config, kpod.runner.schema\n"
        "print([name for name in ('jsonschema', 'numpy', 'torch', 'difflib') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
