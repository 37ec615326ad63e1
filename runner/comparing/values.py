"""What differs before anything ran: recipe values with their origins, machine and packages."""

from __future__ import annotations

from collections.abc import Iterator

from kpod.runner.archive import Archive
from kpod.runner.canonical import flat

Row = tuple[str, ...]


def changed_values(a: Archive, b: Archive) -> Iterator[Row]:
    """(name, A, origin, B, origin) of every value of the resolved recipes that is not the same in both.

    Of a stage that one of them does not have, the defaults are left out: what somebody wrote tells it.
    """
    left, right = dict(flat(a.resolved)), dict(flat(b.resolved))
    alone = set(a.resolved["stages"]) ^ set(b.resolved["stages"])
    for name in dict.fromkeys([*left, *right]):
        if left.get(name) != right.get(name):
            archive = a if name in left else b
            if _stage_of(name) in alone and archive.origins.get(name, "default") == "default":
                continue
            origins = [
                archive.origins.get(name, "default") if name in side else ""
                for archive, side in ((a, left), (b, right))
            ]
            yield name, left.get(name, "absent"), origins[0], right.get(name, "absent"), origins[1]


def _stage_of(name: str) -> str | None:
    """The stage that a dotted name is about; its placement too."""
    parts = name.removeprefix("placement.").split(".")
    return parts[1] if parts[0] == "stages" and len(parts) > 1 else None


def changed_environment(a: Archive, b: Archive) -> Iterator[Row]:
    """(what, A, B) of machine, capability, git state and packages."""
    for topic in ("machine", "capability", "git", "packages"):
        left, right = dict(flat(a.facts[topic] or {})), dict(flat(b.facts[topic] or {}))
        for name in sorted({*left, *right}):
            if left.get(name) != right.get(name):
                yield f"{topic} {name}", left.get(name, "absent"), right.get(name, "absent")
