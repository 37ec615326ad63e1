"""What a sweep over settings says, as the runner wrote it down: a row a combination, and what was chosen by validation data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kpod.stages.report._formats import listed, plural
from kpod.stages.report._verdict import Verdict


class Mean(NamedTuple):
    """A mean over seeds, with its sd and its 95 % t interval; those are None where there is one seed."""

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRow:
    """The comparison of two arms under the settings of a row.

    Args:
        mean, low, high: of other minus baseline, over seeds, with its 95 % t interval; None where it is not known.
        p_holm: p of the t test, which decides, corrected over all rows; None where there is none.
        p_flip_holm: sign-flip p, corrected likewise.
        num_seeds: that both arms have; `needed`: seeds below which nothing is claimed.
        winner: the arm that may be called better, or "".
    """

    baseline: str
    other: str
    mean: float | None
    low: float | None
    high: float | None
    p_holm: float | None
    p_flip_holm: float | None
    num_seeds: int
    needed: int
    winner: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """One combination.

    Args:
        label: its settings, short.
        means: by column; None where nothing was scored.
        pairs: the recipe's own comparison.
        link: the page of this combination, as seen from the sweep's folder, or "".
        num_failed: its runs that are missing.
        chosen_for: arms for which it is the best.
    """

    label: str
    means: tuple[Mean | None, ...]
    pairs: tuple[PairedRow, ...]
    link: str
    num_failed: int
    chosen_for: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptMatrix:
    """The facts of a sweep over settings.

    Args:
        command: that continues it.
        measure: accuracy or loss; `data`: test or validation.
        columns: names of the arms.
        sizes: questions; several numbers where rows differ.
        family: comparisons that are corrected together.
        choices: what `--best` found, in words.
        labels: of the runs, by their names.
    """

    command: str
    measure: str
    data: str
    columns: tuple[str, ...]
    sizes: tuple[int, ...]
    family: int
    rows: tuple[MatrixRow, ...]
    choices: tuple[str, ...]
    labels: dict[str, str]


def read_matrix(folder: Path) -> SweptMatrix | None:
    """The matrix of a sweep's folder; None where only seeds were swept.

    Args:
        folder: with the runner's sweep.json, or without.
    """
    path = folder / "sweep.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    matrix = facts.get("matrix")
    if matrix is None:
        return None
    best = facts["best"]
    choices = best["choices"] if best else []
    return SweptMatrix(
        command=_command(facts, best),
        measure=matrix["measure"],
        data=matrix["data"],
        columns=tuple(matrix["columns"]),
        sizes=tuple(matrix["sizes"]),
        family=matrix["family"],
        rows=tuple(_row(row, choices) for row in matrix["rows"]),
        choices=tuple(_chosen(choice, best["metric"]) for choice in choices)
        + tuple(f"{each['sentence']}." for each in (best["methods"] if best else [])),
        labels={name: label for label, name in facts["runs"].items()},
    )


def _command(facts: Mapping[str, Any], best: Mapping[str, Any] | None) -> str:
    words = [f"{axis['name']}={','.join(axis['values'])}" for axis in facts["axes"]]
    words += [f"seed={','.join(map(str, facts['seeds']))}"] if facts["seeds"] else []
    if best is not None:
        arms = [choice["arm"] for choice in best["choices"]]
        words += ["--best", f"{best['metric']}:{arms[0]}" if len(arms) == 1 else best["metric"]]
    return _joined(facts["recipe"], facts.get("settings", ()), ["--matrix", *words])


def seeds_command(folder: Path, *, recipe: str, seeds: Sequence[int]) -> str:
    """The command that continues a sweep over seeds: of a folder of its own, or of one combination below a sweep's.

    Args:
        folder: with the runner's sweep.json, or below one that has it, or neither.
        recipe: path of the recipe.
        seeds: that ran.
    """
    paths = [each / "sweep.json" for each in (folder, folder.parent)]
    written = (json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists())
    found: dict[str, Any] = next(written, {})
    rows = (found.get("matrix") or {}).get("rows", ())
    own = [setting for row in rows if row["folder"] == folder.name for setting in row["settings"]]
    words = [f"seed={','.join(map(str, seeds))}"]
    return _joined(recipe, [*found.get("settings", ()), *own], words)


def _joined(recipe: str, settings: Sequence[str], words: Sequence[str]) -> str:
    """`kpod sweep RECIPE --set … WORDS`, as a shell takes it."""
    changed = [word for setting in settings for word in ("--set", setting)]
    return " ".join(shlex.quote(word) for word in ["kpod", "sweep", recipe, *changed, *words])


def _row(row: Mapping[str, Any], choices: Sequence[Mapping[str, Any]]) -> MatrixRow:
    return MatrixRow(
        label=row["label"],
        means=tuple(None if each is None else Mean(**each) for each in row["figures"]),
        pairs=tuple(map(_pair, row["methods"])),
        link=f"{row['folder']}/report.html" if row["folder"] else "",
        num_failed=row["num_failed"],
        chosen_for=tuple(each["arm"] for each in choices if each["label"] == row["label"]),
    )


def _pair(method: Mapping[str, Any]) -> PairedRow:
    from kpod.runner import SEEDS_NEEDED

    result = method["result"] or {}
    winner = ""
    if result.get("is_claim"):
        winner = method["b"] if result["mean"] > 0 else method["a"]
    return PairedRow(
        baseline=method["a"],
        other=method["b"],
        mean=result.get("mean"),
        low=result.get("low"),
        high=result.get("high"),
        p_holm=result.get("p_holm"),
        p_flip_holm=result.get("p_flip_holm"),
        num_seeds=result.get("n", 0),
        needed=SEEDS_NEEDED,
        winner=winner,
        sentence=method["sentence"],
    )


def _chosen(choice: Mapping[str, Any], metric: str) -> str:
    """`Best for kpod by validation accuracy: …`, with the test score, which is told of this combination only."""
    validation = Mean(**choice["validation"])
    tests = [f"{name} {in_words(Mean(**figure))}" for name, figure in choice["test"].items()]
    test = f" Its test accuracy: {listed(tests)}." if tests else ""
    equals = f" As good, and later in order: {listed(choice['equals'])}." if choice["equals"] else ""  # fmt: skip
    return (
        f"Best for {choice['arm']} by validation {metric}: {choice['label']}, {in_words(validation)}."
        f"{test}{equals}"
    )


def in_words(mean: Mean) -> str:
    """`0.612 (sd 0.013), 95 % t interval [0.596, 0.628], n = 5 seeds`."""
    seeds = f"n = {plural(mean.n, 'seed')}"
    if mean.sd is None or mean.low is None or mean.high is None:
        return f"{mean.mean:.3f}, {seeds}"
    return f"{mean.mean:.3f} (sd {mean.sd:.3f}), 95 % t interval [{mean.low:.3f}, {mean.high:.3f}], {seeds}"


def matrix_verdict(matrix: SweptMatrix) -> Verdict:
    """What was chosen, or in how many combinations one method may be called better."""
    from kpod.runner import SEEDS_NEEDED

    num = plural(len(matrix.rows), "combination")
    if matrix.choices:
        first, *rest = matrix.choices
        return Verdict(claim=first, details=(*rest, "Chosen by validation questions alone; test scores are told of what was chosen."))  # fmt: skip
    pairs = [pair for row in matrix.rows for pair in row.pairs]
    if not pairs:
        return Verdict(claim=f"{num}; the recipe names no comparison, so none is answered here.", details=())  # fmt: skip
    if all(pair.num_seeds < SEEDS_NEEDED for pair in pairs):
        return Verdict(
            claim=f"No claim in any of {num}: {SEEDS_NEEDED} seeds are needed.", details=()
        )
    wins = [pair.winner for pair in pairs if pair.winner]
    corrected = f"once corrected for {plural(matrix.family, 'comparison')}"
    details = (
        "Arms are paired by seed within each combination. The best combination of this table is no finding: name one with --best,"
        " by validation data.",
    )
    if not wins:
        return Verdict(claim=f"No winner in any of {num}, {corrected}.", details=details)
    told = [f"{arm} is better in {wins.count(arm)} of {len(pairs)}" for arm in dict.fromkeys(wins)]
    return Verdict(claim=f"{'; '.join(told)} comparisons, {corrected}.", details=details)
