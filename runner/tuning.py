"""The best combination of a sweep, chosen by validation data and never by test scores.

Validation scores come from an evaluation that is wired to validation questions, or from a student that judged itself while
it trained. Each arm is tuned for itself: a baseline with settings chosen for its rival is a strawman. What is chosen has its
test score told, once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kpod.runner.archive import Archive
from kpod.runner.config import config_to_json
from kpod.runner.errors import KpodError, nearest
from kpod.runner.recipe import Recipe, RecipeStage
from kpod.runner.seeds import Method, Series, compare_all
from kpod.runner.sweeping import Figure, MatrixTable, Row, family_of, figure_of, make_table

METRICS = {"accuracy": 1.0, "loss": -1.0}
"""What a combination can be chosen by, and the sign that makes more of it better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the best is to be the best at.

    Args:
        metric: one of `METRICS`.
        arms: ids of the stages that are tuned, each for itself.
    """

    metric: str
    arms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best combination for one arm.

    Args:
        label, settings: of the combination.
        validation: what it was chosen by.
        equals: labels of other combinations that are as good; the first in order is chosen.
        left_out: labels of combinations that lack a seed, and cannot be compared.
        test: its test scores, by name of the arm.
    """

    arm: str
    label: str
    settings: tuple[str, ...]
    validation: Figure
    equals: tuple[str, ...]
    left_out: tuple[str, ...]
    test: dict[str, Figure]

    def lines(self, metric: str) -> Iterator[str]:
        """For people."""
        yield f"best for {self.arm} by validation {metric}: {self.label}"
        yield f"  validation {metric} {self.validation}"
        if self.equals:
            yield f"  as good: {'; '.join(self.equals)}; the first in order is taken"
        if self.left_out:
            yield f"  left out, because a seed is missing: {'; '.join(self.left_out)}"
        for name, figure in self.test.items():
            yield f"  {name}: test accuracy {figure}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What was chosen, and what may be said of it.

    Args:
        table: validation scores of all combinations.
        methods: the recipe's primary comparison on test questions, each arm at its own best.
    """

    metric: str
    table: MatrixTable
    choices: tuple[Choice, ...]
    methods: tuple[Method, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON; the table stands elsewhere."""
        return {
            "metric": self.metric,
            "choices": [asdict(choice) for choice in self.choices],
            "methods": [method.to_json() for method in self.methods],
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        for choice in self.choices:
            yield from choice.lines(self.metric)
        if self.methods:
            yield "primary comparison on test questions, each arm at its own best, paired by seed"
            yield from (f"  {each.a} -> {each.b}: {each.sentence}" for each in self.methods)


def wanted_of(text: str, recipe: Recipe) -> Wanted:
    """What `--best METRIC` or `--best METRIC:ARM` asks for; without an arm those of the primary comparison, else all.

    Raises:
        KpodError: there is no such metric or arm, or the recipe scores no validation data.
    """
    metric, _, arm = text.partition(":")
    if metric not in METRICS:
        allowed = ", ".join([*METRICS, *(f"{name}:ARM" for name in METRICS)])
        hint = nearest(metric, METRICS)
        raise KpodError(f"--best: got '{text}'\nallowed: {allowed}\n{hint}".rstrip())
    evaluations = [stage for stage in recipe.stages.values() if _asks_validation(stage)]
    if metric == "accuracy" and len(evaluations) > 1:
        ids = ", ".join(stage.id for stage in evaluations)
        raise KpodError(f"--best {text}: {len(evaluations)} stages score validation data: {ids}\nkeep one of them")  # fmt: skip
    scored = [arm for stage in evaluations if metric == "accuracy" for arm in _arms_of(stage)]
    scored += [stage.id for stage in recipe.stages.values() if _own_metric(stage) == metric]
    arms = list(dict.fromkeys(scored))
    if not arms:
        raise KpodError(_how_to_validate(text, metric, recipe))
    if arm and arm not in arms:
        raise KpodError(f"--best {text}: no validation {metric} of '{arm}'\nallowed: {', '.join(arms)}\n{nearest(arm, arms)}".rstrip())  # fmt: skip
    primary = [each for each in recipe.primary if each in arms]
    return Wanted(metric=metric, arms=(arm,) if arm else tuple(primary or arms))


def _asks_validation(stage: RecipeStage) -> bool:
    wires = stage.wires.get("questions", ())
    return "metrics" in stage.stage.outputs() and bool(wires) and all(
        wire.output == "validation" for wire in wires
    )  # fmt: skip


def _arms_of(stage: RecipeStage) -> list[str]:
    """The arms that an evaluation scores."""
    each = [name for name, wanted in stage.stage.inputs().items() if wanted.each]
    return [wire.stage for name in each for wire in stage.wires.get(name, ())]


def _own_metric(stage: RecipeStage) -> str | None:
    """What a student judges itself by while it trains; None where it is given nothing to judge itself on."""
    if not any(wires for name, wires in stage.wires.items() if name.startswith("validation")):
        return None
    validate = config_to_json(stage.config).get("validate")
    return validate.get("metric") if isinstance(validate, dict) else None


def _how_to_validate(text: str, metric: str, recipe: Recipe) -> str:
    """Why nothing can be chosen, and what to add to the recipe."""
    evaluation = next(
        (stage for stage in recipe.stages.values() if "metrics" in stage.stage.outputs()), None
    )
    asked = evaluation.wires.get("questions", ()) if evaluation else ()
    questions = asked[0].stage if asked else "questions"
    like = evaluation.id if evaluation else "scores"
    lines = [
        f"--best {text}: {recipe.path.name} has no validation {metric}, and test scores choose nothing"
    ]
    if metric == "accuracy":
        lines.append(
            f"add a stage: validation_scores: {{like: {like}, in: {{questions: {questions}.validation}}}}"
        )
        lines.append(
            f"or let students judge themselves: in: {{validation: {questions}.validation}}, with: {{validate: {{metric: accuracy}}}}"
        )
    else:
        lines.append(
            f"let students judge themselves: in: {{validation: {questions}.validation, validation_rationales: …}}, with: {{validate: {{metric: loss}}}}"
        )
    return "\n".join(lines)


def choose(rows: Sequence[Row], wanted: Wanted, primary: Sequence[str]) -> Best:
    """The best combination for each wanted arm.

    Raises:
        KpodError: nothing can be chosen: no combination has all seeds, or they were judged on different questions.
    """
    found = [_validated(row, wanted.metric) for row in rows]
    choices = tuple(_choice(arm, wanted.metric, rows, found) for arm in wanted.arms)
    table = make_table(
        rows, found, measure=wanted.metric, data="validation", primary=wanted.arms
    )  # fmt: skip
    return Best(
        metric=wanted.metric, table=table, choices=choices, methods=tuple(_compared(rows, choices, primary))
    )  # fmt: skip


def _validated(row: Row, metric: str) -> dict[str, Series]:
    """Validation scores by arm: from an evaluation, else as the students noted them."""
    found: dict[str, Series] = {}
    for seed, archive in row.runs.items():
        for arm, value, data, size in _noted(archive, metric):
            series = found.setdefault(arm, Series(name=arm, evaluation="training", arm=arm))
            series.accuracies[seed], series.data[seed], series.sizes[seed] = value, data, size
    evaluated = row.on("validation").values() if metric == "accuracy" else ()
    return {**found, **{series.arm: series for series in evaluated}}


def _noted(archive: Archive, metric: str) -> Iterator[tuple[str, float, str, int]]:
    """Arm, best value, digest of the questions, and their number, of every student that judged itself by this metric."""
    for unit in archive.units.values():
        noted = unit.manifest.notes.get("validation")
        if isinstance(noted, dict) and noted.get("metric") == metric:
            inputs = unit.manifest.preimage.get("inputs", {})
            data = str([inputs.get("validation"), inputs.get("validation_rationales")])
            yield unit.stage, float(noted["best_value"]), data, int(noted["n"])


def _choice(
    arm: str, metric: str, rows: Sequence[Row], found: Sequence[dict[str, Series]]
) -> Choice:
    whole: list[tuple[Row, Series]] = []
    left_out: list[str] = []
    for row, series_by_arm in zip(rows, found, strict=True):
        series = series_by_arm.get(arm)
        if series is None or row.failed or len(series.accuracies) < len(row.runs):
            left_out.append(row.combination.label)
        else:
            whole.append((row, series))
    if not whole:
        raise KpodError(f"nothing is the best for {arm}: no combination has a validation {metric} under every seed")  # fmt: skip
    if len({digest for _, series in whole for digest in series.data.values()}) > 1:
        raise KpodError(
            f"nothing is the best for {arm}: the combinations were judged on different validation questions"
        )
    scores = [METRICS[metric] * _mean(series) for _, series in whole]
    top = max(scores)
    best, *equals = (pair for pair, score in zip(whole, scores, strict=True) if score == top)
    figure = figure_of(best[1])
    assert figure is not None, "it has a score under every seed"
    tests = {name: figure_of(series) for name, series in best[0].on("test").items() if series.arm == arm}  # fmt: skip
    return Choice(
        arm=arm,
        label=best[0].combination.label,
        settings=best[0].combination.settings,
        validation=figure,
        equals=tuple(row.combination.label for row, _ in equals),
        left_out=tuple(left_out),
        test={name: each for name, each in tests.items() if each is not None},
    )


def _mean(series: Series) -> float:
    figure = figure_of(series)
    assert figure is not None
    return figure.mean


def _compared(
    rows: Sequence[Row], choices: Sequence[Choice], primary: Sequence[str]
) -> list[Method]:
    """The primary comparison on test questions, each arm from the row that was chosen for it."""
    row_of = {row.combination.label: row for row in rows}
    found = {
        name: series
        for choice in choices
        for name, series in row_of[choice.label].on("test").items()
        if series.arm == choice.arm
    }
    known = [arm for arm in primary if arm in {series.arm for series in found.values()}]
    if len(known) < 2:
        return []
    return family_of([compare_all(found, known).primary])[0]
