"""What the evaluations found: every arm's scores on every set of test questions, the recipe's primary arms first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import Metric, Prediction
from kpod.stages.report._formats import Share
from kpod.stages.report._notes import Note, flat_notes
from kpod.stages.report._paired import Pair, compare_arms
from kpod.stages.report._wired import maker_of

if TYPE_CHECKING:
    from kpod.runner.archive import Archive, ArchivedUnit


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One model on one set of questions.

    Args:
        name: id of the stage that made the model.
        uses: what made it, e.g. "student.causal_lm".
        model: content id.
        is_primary: whether it belongs to the comparison that the recipe names.
        num_texts: texts it was asked for.
        accuracy: of the questions with a gold answer; None where there are none.
        strict, flexible: under lm-eval's two rules for GSM8K; None where they do not apply.
        changed: verdicts that differ from the flexible rule's.
        no_answer, truncated: texts without an extracted answer; texts cut at the token limit.
        mean_tokens: generated tokens a text.
        training_s: seconds that making the model took, whenever that was; None where nothing was trained.
    """

    name: str
    uses: str
    model: str
    is_primary: bool
    num_texts: int
    accuracy: Share | None
    strict: Share | None
    flexible: Share | None
    changed: Share | None
    no_answer: Share | None
    truncated: Share | None
    mean_tokens: float
    training_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """The arms on one set of questions.

    Args:
        name: id of the evaluating stage.
        n: questions with a gold answer.
        num_questions: questions asked.
        arms: the primary ones first.
        pairs: arms beside each other on the same questions.
        has_samples: whether questions were answered more than once, so that nothing is paired.
        settings: of the evaluation, where all arms share them.
    """

    name: str
    n: int
    num_questions: int
    arms: tuple[Arm, ...]
    pairs: tuple[Pair, ...]
    has_samples: bool
    settings: tuple[Note, ...]


class Scored(NamedTuple):
    """A test set, with what its journeys are drawn from.

    Args:
        facts: for the page.
        units: the evaluating unit of each arm.
        verdicts: for each arm: question id -> whether its first text was right.
    """

    facts: TestSet
    units: Mapping[str, ArchivedUnit]
    verdicts: Mapping[str, Mapping[str, bool | None]]


class _Found(NamedTuple):
    unit: ArchivedUnit
    metric: Metric
    arm: Arm


class _Verdicts(NamedTuple):
    first: dict[str, bool | None]
    has_samples: bool


def read_scores(archive: Archive) -> tuple[Scored, ...]:
    """Every set of test questions, in the order in which the recipe's evaluations ran."""
    sets: dict[tuple[str, str], list[_Found]] = {}
    for unit in archive.units.values():
        if unit.uses.startswith("evaluate.") and "metrics" in unit.manifest.outputs:
            for metric in archive.read(unit, "metrics", Metric):
                found = _Found(unit, metric, _arm(archive, unit, metric))
                sets.setdefault((unit.stage, metric.data), []).append(found)
    stages = [stage for stage, _ in sets]
    return tuple(
        _scored(archive, found, name=stage if stages.count(stage) == 1 else f"{stage} {data[:8]}")
        for (stage, data), found in sets.items()
    )


def _arm(archive: Archive, unit: ArchivedUnit, metric: Metric) -> Arm:
    name = unit.element or maker_of(archive, metric.model)
    made = next((other for other in archive.units.values() if other.stage == name), None)
    stored = unit.manifest.outputs.get("predictions")
    num_texts = (stored.num_records if stored else None) or metric.n

    def of(frac: float | None, total: int) -> Share | None:
        return None if frac is None else Share.of(round(frac * total), total)

    changed = metric.num_changed_by_extractor
    return Arm(
        name=name,
        uses=made.uses if made else "",
        model=metric.model,
        is_primary=name in archive.facts["primary"],
        num_texts=num_texts,
        accuracy=Share.of(metric.num_correct, metric.n),
        strict=of(metric.strict_frac, metric.n),
        flexible=of(metric.flexible_frac, metric.n),
        changed=None if changed is None else Share.of(changed, metric.n),
        no_answer=of(metric.no_answer_frac, num_texts),
        truncated=of(metric.truncated_frac, num_texts),
        mean_tokens=metric.mean_tokens,
        training_s=made.manifest.seconds if made and made.uses.startswith("student.") else None,
    )


def _scored(archive: Archive, found: Sequence[_Found], *, name: str) -> Scored:
    primary: list[str] = archive.facts["primary"]
    ordered = sorted(
        found,
        key=lambda each: primary.index(each.arm.name) if each.arm.is_primary else len(primary),
    )
    read = {each.arm.name: _verdicts(archive, each) for each in ordered}
    has_samples = any(verdicts.has_samples for verdicts in read.values())
    verdicts = {arm: verdict.first for arm, verdict in read.items()}
    in_turn = {each.arm.name: verdicts[each.arm.name] for each in found}
    facts = TestSet(
        name=name,
        n=max(each.metric.n for each in found),
        num_questions=max((len(first) for first in verdicts.values()), default=0)
        or max(each.metric.n for each in found),
        arms=tuple(each.arm for each in ordered),
        pairs=() if has_samples else compare_arms(in_turn, primary),
        has_samples=has_samples,
        settings=flat_notes(_shared([each.unit.config for each in found])),
    )
    return Scored(facts, {each.arm.name: each.unit for each in ordered}, verdicts)


def _verdicts(archive: Archive, found: _Found) -> _Verdicts:
    first: dict[str, bool | None] = {}
    has_samples = False
    if "predictions" in found.unit.manifest.outputs:
        for prediction in archive.read(found.unit, "predictions", Prediction):
            if prediction.model == found.metric.model:
                has_samples = has_samples or prediction.sample > 0
                first.setdefault(prediction.question_id, prediction.is_correct)
    return _Verdicts(first, has_samples)


def _shared(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings on which all agree."""
    return {
        name: value
        for name, value in configs[0].items()
        if all(config.get(name) == value for config in configs)
    }
