"""What a stage's result is named by: a pre-image of everything that can change it, and why one differs from another.

Not in it: host, paths, time, placement, stage ids. Source: DESIGN 5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from kpod.runner.canonical import canonical_json, digest_of
from kpod.runner.config import keyed_settings
from kpod.runner.registry import code_digest
from kpod.runner.stage import Stage

KEY_SCHEMA = 1


def stage_seed(recipe_seed: int, uses: str) -> int:
    """The seed of a stage that takes the recipe's: from that and the KIND, so that arms share initialisation and order."""
    kind = uses.partition(".")[0]
    return int.from_bytes(
        hashlib.sha256(f"kpod seed {recipe_seed} {kind}".encode()).digest()[:4], "big"
    )


def seed_of(stage: type[Stage[Any]], config: Any, *, recipe_seed: int) -> int | None:
    """The seed that a stage runs under; None where no seed can matter."""
    if not stage.is_seeded(config):
        return None
    return int(config.seed) if stage.seeded == "data" else stage_seed(recipe_seed, stage.uses)


def preimage(
    stage: type[Stage[Any]],
    config: Any,
    *,
    inputs: Mapping[str, Sequence[str]],
    sources: Mapping[str, Mapping[str, str]],
    recipe_seed: int,
    packages: Mapping[str, str],
) -> dict[str, Any]:
    """Everything that the result of a stage depends on.

    Args:
        stage: the stage.
        config: its settings, `auto` resolved.
        inputs: content digests by input.
        sources: content of what is read from outside, by the setting that names it.
        recipe_seed: the recipe's.
        packages: versions of installed distributions.
    """
    settings, version = keyed_settings(config), stage.version_of(config)
    if stage.seeded == "data":
        settings.pop("seed", None)
    for dotted in sources:
        _drop(settings, dotted.split("."))
    return {
        "key_schema": KEY_SCHEMA,
        "uses": stage.uses,
        "version": code_digest(stage) if version is None else version,
        "config": settings,
        "inputs": {name: list(digests) for name, digests in inputs.items()},
        "sources": {name: dict(fact) for name, fact in sources.items()},
        "seed": seed_of(stage, config, recipe_seed=recipe_seed),
        "libraries": {name: packages.get(name, "absent") for name in stage.libraries_of(config)},
    }


def stage_key(image: Mapping[str, Any]) -> str:
    """The name of a result: sha256 over the canonical pre-image, 64 hex digits."""
    return digest_of(image)


def _drop(settings: Any, parts: Sequence[str]) -> None:
    """Take a setting out whose content stands under `sources`; `*` stands for any item."""
    first, *rest = parts
    if first == "*":
        for item in settings.values() if isinstance(settings, dict) else settings or ():
            _drop(item, rest)
    elif not isinstance(settings, dict):
        return
    elif rest:
        _drop(settings.get(first), rest)
    else:
        settings.pop(first, None)


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Why two pre-images give two keys, in words, the first cause first."""
    found: list[str] = []
    if old["uses"] != new["uses"]:
        return [f"another stage: {old['uses']} -> {new['uses']}"]
    if old["version"] != new["version"]:
        found.append(f"version changed: {_short(old['version'])} -> {_short(new['version'])}")
    sources = {*old["sources"], *new["sources"]}
    before, after = _without(old["config"], sources), _without(new["config"], sources)
    found += [f"config changed: {line}" for line in _differences(before, after, "")]
    found += [
        _source_changed(name, old["sources"], new["sources"])
        for name in _unequal(old["sources"], new["sources"])
    ]
    found += [
        _input_changed(name, old["inputs"], new["inputs"])
        for name in _unequal(old["inputs"], new["inputs"])
    ]
    if old["seed"] != new["seed"]:
        found.append("seed changed")
    found += [
        f"library changed: {line}" for line in _differences(old["libraries"], new["libraries"], "")
    ]
    if old["key_schema"] != new["key_schema"]:
        found.append("the way keys are made changed")
    return found


def _without(config: Mapping[str, Any], sources: Set[str]) -> dict[str, Any]:
    """A config without what names a source in either image: its content stands for it, or null where there is none."""
    return {name: value for name, value in config.items() if name not in sources}


def _source_changed(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    if name in old and name in new:
        return f"source changed: {name}"
    return f"source {'is new' if name in new else 'is gone'}: {name}"


def _input_changed(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """An input with nothing behind it is none: optional ones are wired in one recipe and not in another."""
    if not old.get(name):
        return f"input is new: {name}"
    return f"input {'changed' if new.get(name) else 'is gone'}: {name}"


def _unequal(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of values that differ, as keys see them: 1, 1.0 and true are three, and null is not nothing."""
    return [
        name
        for name in sorted({*old, *new})
        if (name in old) != (name in new)
        or canonical_json(old.get(name)) != canonical_json(new.get(name))
    ]


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name in _unequal(old, new):
        before, after = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            yield from _differences(before, after, f"{prefix}{name}.")
        elif name not in old:
            yield f"{prefix}{name} is new: {_short(after)}"
        elif name not in new:
            yield f"{prefix}{name} is gone: {_short(before)}"
        else:
            yield f"{prefix}{name} {_short(before)} -> {_short(after)}"


def _short(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}…"
