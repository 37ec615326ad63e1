"""More than two runs: one row a run with what differs between them, and their scores; runs that differ in the seed alone are one group."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kpod.runner.archive import Archive
from kpod.runner.canonical import flat
from kpod.runner.record import Metric
from kpod.runner.seeds import made_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs with the same recipe but for the seed.

    Args:
        runs: their names.
        seeds: of each.
        values: of what differs between the groups, by dotted name.
        accuracies: by arm, one a run that scored it.
    """

    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, str]
    accuracies: dict[str, tuple[float, ...]]

    def told(self, arm: str) -> str:
        """Accuracy of an arm: one, or mean and spread over seeds."""
        found = self.accuracies.get(arm, ())
        if len(found) < 2:
            return f"{found[0]:.3f}" if found else ""
        return (
            f"{statistics.mean(found):.3f} (sd {statistics.stdev(found):.3f}, {len(found)} seeds)"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """Several runs.

    Args:
        differing: dotted names of the values that are not the same in all groups.
        arms: evaluated in any of them, in the order of the recipes.
        groups: in the order of their first runs.
    """

    differing: tuple[str, ...]
    arms: tuple[str, ...]
    groups: tuple[Group, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def compare_many(archives: Sequence[Archive]) -> Many:
    """Group runs by what differs.

    Args:
        archives: at least one; each counts once.
    """
    values = {
        archive.name: {
            name: value
            for name, value in flat(archive.resolved)
            if name != "seed" and not name.startswith("placement.")
        }
        for archive in archives
    }
    names = dict.fromkeys(name for row in values.values() for name in row)
    differing = tuple(
        name for name in names if len({row.get(name, "absent") for row in values.values()}) > 1
    )
    grouped: dict[tuple[str, ...], list[Archive]] = {}
    for archive in archives:
        row = values[archive.name]
        grouped.setdefault(tuple(row.get(name, "absent") for name in differing), []).append(archive)
    differing, grouped = _by_origin(differing, grouped)
    scores = {archive.name: _accuracies(archive) for archive in archives}
    arms = tuple(dict.fromkeys(arm for found in scores.values() for arm in found))
    return Many(
        differing=differing,
        arms=arms,
        groups=tuple(
            _group(dict(zip(differing, key, strict=True)), found, scores)
            for key, found in grouped.items()
        ),
    )


def _by_origin(
    differing: tuple[str, ...], grouped: Mapping[tuple[str, ...], Sequence[Archive]]
) -> tuple[tuple[str, ...], dict[tuple[str, ...], list[Archive]]]:
    """Runs of one recipe apart where its files, the code or the libraries were others: the text of a recipe does not show it."""
    apart: dict[tuple[str, ...], list[Archive]] = {}
    for key, archives in grouped.items():
        origins: list[object] = []
        for archive in archives:
            origin = made_from(archive)
            if origin not in origins:
                origins.append(origin)
            apart.setdefault((*key, str(origins.index(origin) + 1)), []).append(archive)
    if len(apart) == len(grouped):
        return differing, {key[:-1]: archives for key, archives in apart.items()}
    return (*differing, "data, code, libraries"), apart


def _group(
    values: dict[str, str], archives: Sequence[Archive], scores: Mapping[str, Mapping[str, float]]
) -> Group:
    accuracies: dict[str, list[float]] = {}
    for archive in archives:
        for arm, accuracy in scores[archive.name].items():
            accuracies.setdefault(arm, []).append(accuracy)
    return Group(
        runs=tuple(archive.name for archive in archives),
        seeds=tuple(int(archive.facts["seed"]) for archive in archives),
        values=values,
        accuracies={arm: tuple(found) for arm, found in accuracies.items()},
    )


def _accuracies(archive: Archive) -> dict[str, float]:
    found = {}
    for arm, unit in archive.scored().items():
        accuracy = next(archive.read(unit, "metrics", Metric)).accuracy
        if accuracy is not None:
            found[arm] = accuracy
    return found
