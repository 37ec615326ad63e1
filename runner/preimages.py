"""What keys were made from, and which keys the units of a recipe had last: files of the store beside its entries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kpod.runner.canonical import pretty_json
from kpod.runner.store import Store


def read_recent(store: Store, recipe_name: str) -> dict[str, str]:
    """The keys that the units of a recipe of that name had last, by unit name."""
    path = store.root / "recent" / f"{recipe_name}.json"
    try:
        recent: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recent


def write_preimage(store: Store, key: str, image: Mapping[str, Any]) -> None:
    """Keep what a key was made from."""
    path = store.root / "preimages" / key[:2] / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    store.disk.replace_text(path, pretty_json(image))


def read_preimage(store: Store, key: str) -> dict[str, Any] | None:
    """The stored pre-image of a key; kept even where the entry is gone."""
    path = store.root / "preimages" / key[:2] / f"{key}.json"
    try:
        image: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return image
