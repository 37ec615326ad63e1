"""Results that are kept whatever becomes of the runs that made them: one small file a key, with the reason."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import orjson

from kpod.runner.archive import Archive, find_run
from kpod.runner.canonical import pretty_json
from kpod.runner.errors import KpodError
from kpod.runner.events import utc_now
from kpod.runner.store import Store
from kpod.runner.wording import shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """A key that is kept: what a person named, and when."""

    key: str
    named: str
    at: str


def pin(store: Store, name: str, runs: Path) -> list[str]:
    """Pin what a person names; the keys.

    Args:
        store: whose entries are meant.
        name: RUN (all its results), RUN:STAGE, or the beginning of a key, at least 6 digits.
        runs: folder of the archives.

    Raises:
        KpodError: there is no such result, or several keys begin so.
    """
    keys = _keys_named(store, name, runs)
    folder = store.root / "pins"
    folder.mkdir(parents=True, exist_ok=True)
    for key in keys:
        facts = {"key": key, "named": name, "at": utc_now()}
        store.disk.replace_text(folder / f"{key}.json", pretty_json(facts))
    return keys


def unpin(store: Store, name: str, runs: Path) -> list[str]:
    """Take back what `pin` did for the same name; the keys that were pinned."""
    pinned = {one.key: one for one in pins(store)}
    keys = [key for key, one in pinned.items() if one.named == name or key.startswith(name)]
    if not keys:
        keys = [key for key in _keys_named(store, name, runs) if key in pinned]
    for key in keys:
        (store.root / "pins" / f"{key}.json").unlink(missing_ok=True)
    return keys


def pins(store: Store) -> list[Pin]:
    """All pins, by key.

    Raises:
        KpodError: a file among them is none that kpod wrote; what it kept is not known.
    """
    folder = store.root / "pins"
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return [_read(path) for path in files]


def _read(path: Path) -> Pin:
    try:
        content = path.read_bytes()
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        raise KpodError(f"{path} cannot be read: {said}\n{_advice(path)}") from None
    try:
        facts = orjson.loads(content)
    except ValueError:
        raise _no_pin(path, "no JSON") from None
    names = {field.name for field in fields(Pin)}
    is_pin = isinstance(facts, dict) and facts.keys() == names
    if not is_pin or not all(isinstance(value, str) for value in facts.values()):
        raise _no_pin(path, shown(facts))
    return Pin(**facts)


def _no_pin(path: Path, got: str) -> KpodError:
    names = ", ".join(sorted(field.name for field in fields(Pin)))
    return KpodError(
        f"{path}\n  got {got}, which is no pin\n  allowed: a mapping of texts: {names}\n  {_advice(path)}"
    )


def _advice(path: Path) -> str:
    return f"pin it again (kpod cache pin {path.stem[:12]}), or delete the file where nothing is to be kept"


def _keys_named(store: Store, name: str, runs: Path) -> list[str]:
    run, _, stage = name.partition(":")
    if len(name) >= 6 and not set(name) - set("0123456789abcdef"):
        keys = [key for key in store.keys() if key.startswith(name)]  # noqa: SIM118 - a generator, no dict
        if len(keys) > 1:
            raise KpodError(f"{len(keys)} keys begin with {name}\nallowed: more digits")
        if keys:
            return keys
    return _keys_of_run(find_run(run, runs), stage)


def _keys_of_run(archive: Archive, stage: str) -> list[str]:
    units = archive.units.values()
    keys = [unit.manifest.key for unit in units if stage in {"", unit.stage, unit.name}]
    if not keys:
        names = dict.fromkeys(unit.stage for unit in units)
        raise KpodError(f"{archive.name} has no stage '{stage}'\nallowed: {', '.join(names)}")
    return list(dict.fromkeys(keys))
