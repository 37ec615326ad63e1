"""What names a result: everything that can change it, and nothing else."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import Added, Ge, LocalPath, Output, Question, Stage, Volatile
from kpod.runner.canonical import canonical_json, digest_of
from kpod.runner.document import dump
from kpod.runner.keys import changes, preimage, seed_of, stage_key, stage_seed
from kpod.runner.session import RunOptions, Session
from kpod.runner.stage import Seeded as Seed
from tests.strategies import chains, renamed, shuffled


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """How to load."""

    workers: Annotated[int, Volatile()] = 1
    size: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One setting of each kind."""

    rate: float = 0.1
    rank: Annotated[int, Ge(1)] = 8
    label: str | None = None
    targets: tuple[str, ...] = ("q", "v")
    seed: int = 0
    every: Annotated[int, Volatile()] = 10
    loading: Loading = Loading()
    loaders: tuple[Loading, ...] = (Loading(),)
    path: Annotated[str | None, LocalPath()] = None
    files: dict[str, str] = dataclasses.field(default_factory=lambda: {"a": "x", "b": "y"})


class Seeded(Stage[Config]):
    """Takes the recipe's seed."""

    uses = "student.fake"
    version = 3
    seeded: ClassVar[Seed] = "recipe"
    libraries = ("torch", "nothing")
    result = Output(Question)


class OwnSeed(Seeded):
    """Takes its own seed."""

    uses = "data.fake"
    seeded = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrownLoading(Loading):
    """As Loading, with a setting that came later."""

    pinned: Annotated[bool, Added()] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GrownConfig(Config):
    """As Config, after a release that added settings to it and to what it holds."""

    loading: GrownLoading = GrownLoading()
    loaders: tuple[GrownLoading, ...] = (GrownLoading(),)
    dropout: Annotated[float, Added()] = 0.0
    extra: Annotated[GrownLoading, Added()] = GrownLoading()


class Unseeded(Seeded):
    """Takes none."""

    uses = "filter.fake"
    seeded = "none"


def image(stage: type[Stage[Any]] = Unseeded, **changed: Any) -> dict[str, Any]:
    """A pre-image with some facts changed; a Config's settings by their names."""
    facts: dict[str, Any] = {
        "inputs": {"questions": ["aa", "bb"]}, "sources": {"path": {"sha256": "cc"}}, "recipe_seed": 0,
        "packages": {"torch": "2.8", "numpy": "2"},
    }  # fmt: skip
    config = Config(**{name: value for name, value in changed.items() if name not in facts})
    facts |= {name: value for name, value in changed.items() if name in facts}
    return preimage(stage, config, **facts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate", 0.2), ("rank", 9), ("label", "x"), ("label", ""), ("targets", ("v", "q")), ("targets", ("q",)),
        ("loading", Loading(size=9)), ("loaders", (Loading(size=9),)), ("loaders", (Loading(), Loading())),
        ("files", {"a": "x", "b": "z"}), ("files", {"a": "x"}), ("inputs", {"questions": ["bb", "aa"]}),
        ("inputs", {"questions": ["aa"]}), ("inputs", {"others": ["aa", "bb"]}), ("sources", {"path": {"sha256": "cd"}}),
        ("sources", {}), ("packages", {"torch": "2.9", "numpy": "2"}), ("packages", {"numpy": "2"}), ("seed", 1),
    ],
)  # fmt: skip
def test_whatever_can_change_the_result_changes_the_key(name: str, value: Any) -> None:
    assert stage_key(image()) != stage_key(image(**{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("every", 11), ("loading", Loading(workers=4)), ("loaders", (Loading(workers=4),)), ("path", "/elsewhere"),
        ("recipe_seed", 1), ("packages", {"torch": "2.8", "numpy": "3"}), ("files", {"b": "y", "a": "x"}),
    ],
)  # fmt: skip
def test_what_cannot_change_the_result_leaves_the_key(name: str, value: Any) -> None:
    assert stage_key(image()) == stage_key(image(**{name: value}))


class Grown(Stage[GrownConfig]):
    """Seeded, one release later."""

    uses = Seeded.uses
    version = Seeded.version
    seeded: ClassVar[Seed] = "recipe"
    libraries = Seeded.libraries
    result = Output(Question)


def _grown_key(**settings: Any) -> str:
    return stage_key(
        preimage(
            Grown, GrownConfig(**settings), inputs={"questions": ["d1"]}, sources={}, recipe_seed=7,
            packages={"torch": "2"},
        )
    )  # fmt: skip


def test_a_library_counts_only_under_the_settings_that_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def needed(config: Config) -> tuple[str, ...]:
        return ("torch", "bits") if config.rank == 4 else ("torch",)

    monkeypatch.setattr(Seeded, "libraries_of", staticmethod(needed))
    keys = [
        stage_key(
            preimage(Seeded, Config(rank=rank), inputs={}, sources={}, recipe_seed=0, packages={"torch": "2", "bits": bits})
        )
        for rank in (4, 8)
        for bits in ("1", "2")
    ]  # fmt: skip
    assert keys[0] != keys[1]
    assert keys[2] == keys[3]


def test_results_stored_before_a_setting_was_added_are_still_found() -> None:
    before = stage_key(
        preimage(
            Seeded, Config(), inputs={"questions": ["d1"]}, sources={}, recipe_seed=7, packages={"torch": "2"}
        )
    )  # fmt: skip
    assert _grown_key() == before
    pinned = GrownLoading(pinned=True)
    changed = [
        _grown_key(dropout=0.1), _grown_key(extra=pinned), _grown_key(loading=pinned), _grown_key(loaders=(pinned,)),
        # 0 is not 0.0, as everywhere in a key.
        _grown_key(dropout=0),
    ]  # fmt: skip
    assert len({before, *changed}) == 6


def test_the_class_and_its_version_change_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image()
    assert stage_key(before) != stage_key(image(OwnSeed))
    monkeypatch.setattr(Seeded, "version", 4)

    assert changes(before, image()) == ["version changed: 3 -> 4"]


def test_only_the_seed_that_a_stage_declares_changes_its_key() -> None:
    by_recipe = [stage_key(image(Seeded, recipe_seed=seed)) for seed in (0, 1)]
    by_own = [stage_key(image(OwnSeed, seed=seed)) for seed in (0, 1)]
    own_under_two_recipes = [stage_key(image(OwnSeed, recipe_seed=seed)) for seed in (0, 1)]

    assert (len({*by_recipe}), len({*by_own}), len({*own_under_two_recipes})) == (2, 2, 1)


def test_arms_of_one_kind_share_a_seed_and_kinds_do_not() -> None:
    assert stage_seed(0, "student.causal_lm") == stage_seed(0, "student.seq2seq_lm")
    assert stage_seed(0, "student.causal_lm") != stage_seed(0, "weighting.random")
    assert stage_seed(0, "student.causal_lm") != stage_seed(1, "student.causal_lm")
    assert (
        seed_of(Unseeded, Config(seed=7), recipe_seed=1),
        seed_of(OwnSeed, Config(seed=7), recipe_seed=1),
    ) == (None, 7)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ({}, {"rate": 0.2}, ["config changed: rate 0.1 -> 0.2"]),
        ({}, {"label": "x"}, ["config changed: label null -> x"]),
        ({}, {"loading": Loading(size=9)}, ["config changed: loading.size 8 -> 9"]),
        ({}, {"inputs": {"questions": ["dd"]}}, ["input changed: questions"]),
        ({}, {"inputs": {"questions": ["aa", "bb"], "more": ["x"]}}, ["input is new: more"]),
        ({}, {"sources": {"path": {"sha256": "d"}}}, ["source changed: path"]),
        ({"sources": {}}, {}, ["source is new: path"]),
        ({}, {"sources": {}}, ["source is gone: path"]),
        ({}, {"packages": {"torch": "2.9"}}, ["library changed: torch 2.8 -> 2.9"]),
        ({}, {"rank": 9, "rate": 0.2, "inputs": {"questions": []}},
         ["config changed: rank 8 -> 9", "config changed: rate 0.1 -> 0.2", "input is gone: questions"]),
        ({}, {"label": "y" * 50}, [f"config changed: label null -> {'y' * 37}…"]),
        ({"rate": 0.2}, {"rate": 0.2}, []),
    ],
)  # fmt: skip
def test_changes_says_in_words_why_two_keys_differ(
    old: dict[str, Any], new: dict[str, Any], words: list[str]
) -> None:
    assert words == changes(image(**old), image(**new))


def test_changes_says_which_setting_is_new_or_gone() -> None:
    """A new release of a stage brings a setting whose value is null: that is not "null -> null"."""
    before, after = dict(image()), dict(image())
    after["config"] = {**after["config"], "vote": None}

    assert changes(before, after) == ["config changed: vote is new: null"]
    assert changes(after, before) == ["config changed: vote is gone: null"]


def test_a_library_that_counts_under_the_new_setting_alone_is_new() -> None:
    before, after = dict(image()), dict(image())
    after["libraries"] = {**after["libraries"], "bitsandbytes": "0.50.2"}

    assert changes(before, after) == ["library changed: bitsandbytes is new: 0.50.2"]


@given(st.data())
@settings(max_examples=100)
def test_two_images_have_one_key_exactly_when_nothing_changed(data: st.DataObject) -> None:
    values = st.none() | st.booleans() | st.integers(0, 2) | st.floats(0, 2) | st.sampled_from(["", "1", "null"])  # fmt: skip
    configs = st.dictionaries(st.sampled_from("abc"), values, max_size=3)
    old, new = (
        {**image(), "config": data.draw(configs)},
        {**image(), "config": data.draw(configs)},
    )

    assert (stage_key(old) == stage_key(new)) == (changes(old, new) == [])


def test_a_changed_seed_is_told() -> None:
    assert changes(image(Seeded), image(Seeded, recipe_seed=1)) == ["seed changed"]


def test_canonical_json_tells_types_apart_and_knows_no_order() -> None:
    assert len({canonical_json(value) for value in (1, 1.0, True, "1")}) == 4
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


class _Planned:
    """Keys by position of recipes over one store in which everything is a hit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.number = 0

    def keys(self, recipe: dict[str, Any], *, is_run: bool = False) -> dict[str, str | None]:
        self.number += 1
        path = self.folder / f"recipe{self.number}.yaml"
        path.write_text(dump(recipe), encoding="utf-8")
        session = Session(path, RunOptions(runs=self.folder / "runs"))
        if is_run:
            session.run()
        found = {assessed.unit.name: assessed.key for assessed in session.planner.plan()}
        session.store.close()
        return found


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> _Planned:
    return _Planned(tmp_path_factory.mktemp("keys"))


@given(st.data())
@settings(max_examples=15)
def test_order_ids_and_volatile_settings_never_matter(
    planned: _Planned, data: st.DataObject
) -> None:
    recipe = data.draw(chains())
    keys = planned.keys(recipe, is_run=True)
    assert None not in keys.values()
    assert keys == planned.keys(data.draw(shuffled(recipe)))

    ids = list(recipe["stages"])
    new_name = dict(zip(ids, data.draw(st.permutations([f"z{n}" for n in range(len(ids))])), strict=True))  # fmt: skip
    found = planned.keys(renamed(recipe, new_name))
    assert sorted(map(str, keys.values())) == sorted(map(str, found.values()))

    for stage in recipe["stages"].values():
        if stage["uses"] == "chain.step":
            stage["with"]["name"] += "x"
    assert keys == planned.keys(recipe)
