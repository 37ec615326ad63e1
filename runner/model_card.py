"""The page that goes with an exported student (README.md): what it is made of, how good it is, how to load it.

Everything stands in the archive; nothing names a path of the machine that made it. The front matter is what the hub reads:
https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Literal

from kpod.runner import document
from kpod.runner.archive import Archive, ArchivedUnit
from kpod.runner.comparing.reading import Reading
from kpod.runner.comparing.scores import arms_of, compare_arms
from kpod.runner.model_code import loading_code
from kpod.runner.record import Metric

MARK = "Exported by kpod"
# What tells a teacher's or a base's name in its settings.
_NAMES = ("model", "name", "label", "package", "file", "revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """What the archive does not know about an export.

    Args:
        form: adapter or merged.
        dtype: what its weights are stored in.
        architecture: transformers' class.
        is_seq2seq: whether an encoder reads the prompt.
        prompt: that it was trained with, as model.json has it.
        base_id: hub id of its base, or None.
        base_revision: the base's commit there.
        adds_special_tokens: how the tokenizer is called.
        example: a question to try it with.
        max_new_tokens: as evaluated.
        check: what came of the check, in words.
    """

    form: Literal["adapter", "merged"]
    dtype: str
    architecture: str
    is_seq2seq: bool
    prompt: Mapping[str, Any]
    base_id: str | None
    base_revision: str | None
    adds_special_tokens: bool
    example: str
    max_new_tokens: int
    check: str


def model_card(
    archive: Archive, student: ArchivedUnit, evaluation: ArchivedUnit | None, exhibit: Exhibit
) -> str:
    """The card as Markdown.

    Args:
        archive: of a complete run.
        student: the unit that trained it.
        evaluation: the unit that scored it, or None.
        exhibit: facts of the export.
    """
    facts = archive.facts
    version = facts["packages"].get("kpod", "of unknown version")
    sections = [
        f"---\n{document.dump(_front_matter(archive, student, exhibit))}---",
        f"# {facts['name']}: {student.name}",
        _opening(archive, student, exhibit),
        "## How good it is",
        *_scores(archive, student, evaluation),
        f"Check of this export: {exhibit.check}.",
        "## How to load it",
        _fenced(loading_code(exhibit), "python"),
        *_prompt(exhibit),
        "## What it was trained on",
        "\n".join(_made_of(archive, student)),
        "## Licence",
        "Neither the recipe nor its data name a licence, so none stands here. What applies to the base, to the data and to"
        " the teacher's texts applies to this student too.",
        "## The recipe",
        "Every setting as it was used; absolute paths are shortened to the file's name.",
        _fenced(document.dump(shortened(archive.resolved)), "yaml"),
        f"{MARK} {version} from the run {archive.name}.",
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(archive: Archive, student: ArchivedUnit, exhibit: Exhibit) -> dict[str, Any]:
    method = "lora" if exhibit.form == "adapter" else str(student.config.get("method", ""))
    tags = ["kpod", "distillation"]
    tags += ["chain-of-thought"] if _reasons(exhibit) else []
    tags += ["lora"] if method == "lora" else []
    matter: dict[str, Any] = {
        "library_name": "peft" if exhibit.form == "adapter" else "transformers",
        "tags": tags,
    }
    if not exhibit.is_seq2seq:
        matter["pipeline_tag"] = "text-generation"
    if exhibit.base_id is not None:
        matter["base_model"] = exhibit.base_id
        matter["base_model_relation"] = "adapter" if exhibit.form == "adapter" else "finetune"
    data = [
        str(row["fact"]["hub"])
        for row in archive.facts["sources"]
        if "hub" in row["fact"] and archive.units[row["unit"]].uses.startswith("data.")
    ]
    if data:
        matter["datasets"] = list(dict.fromkeys(data))
    return matter


def _opening(archive: Archive, student: ArchivedUnit, exhibit: Exhibit) -> str:
    form = "An adapter for peft" if exhibit.form == "adapter" else "A whole model for transformers"
    config = student.config
    computed = config.get("precision", "unknown")
    if config.get("compute") not in (None, "auto"):
        computed = f"{computed}, computing in {config['compute']}"
    base = exhibit.base_id or "a base that is described below"
    if exhibit.base_revision:
        base = f"{base} at {exhibit.base_revision[:12]}"
    aim = "to reason in steps before it answers" if _reasons(exhibit) else "to answer at once"
    said = [
        f"{form}: a {exhibit.architecture}, trained by {student.uses} ({config.get('method', 'full')}) from {base} {aim}.",
        str(archive.resolved.get("description") or "").strip(),
        f"Seed {archive.facts['seed']}. Trained in {computed}; weights stored in {exhibit.dtype}."
        f" Training: {student.manifest.summary}.",
    ]
    return "\n\n".join(one for one in said if one)


def _reasons(exhibit: Exhibit) -> bool:
    return "{rationale}" in str(exhibit.prompt["template"])


def _prompt(exhibit: Exhibit) -> Iterator[str]:
    prompt = exhibit.prompt
    yield (
        f"The prompt it was trained and evaluated with (format {prompt['format']}); what stands before the first of"
        " {rationale} and {answer} is asked, the rest is what it learned to say:"
    )
    yield _fenced(str(prompt["template"]), "text")


def _scores(
    archive: Archive, student: ArchivedUnit, evaluation: ArchivedUnit | None
) -> Iterator[str]:
    if evaluation is None:
        yield "The run evaluated nothing of this student."
        return
    beside = {unit.name: unit for unit in _shown_beside(archive, student, evaluation)}
    rows = [_score_row(archive, unit, student) for unit in beside.values()]
    head = "| arm | accuracy | 95 % Wilson interval | right of n |\n| --- | --- | --- | --- |"
    yield "\n".join([head, *rows])
    config = evaluation.config
    quantised = config.get("quantisation", "none")
    held = "" if quantised == "none" else f" with weights in {quantised}"
    yield (
        f"Questions: {', '.join(evaluation.wires.get('questions', []))}; greedy, at most"
        f" {config.get('max_new_tokens', '?')} new tokens, computed in {config.get('precision', '?')}{held}."
        f" One seed ({archive.facts['seed']}): an observation about this student, no claim about the method."
    )
    yield from _comparison(archive, evaluation)


def _shown_beside(
    archive: Archive, student: ArchivedUnit, evaluation: ArchivedUnit
) -> Iterator[ArchivedUnit]:
    """The scores of the student, of its base and of the arms that the recipe compares, from the same evaluation."""
    yield evaluation
    models = [*student.wires.get("model", []), *archive.facts["primary"]]
    for model in models:
        for unit in archive.scored().values():
            of = [wire for wire in unit.wires.get("models", []) if model in (wire, _stage_of(wire))]
            if unit.stage == evaluation.stage and of:
                yield unit


def _stage_of(wire: str) -> str:
    return wire.partition(".")[0]


def _score_row(archive: Archive, unit: ArchivedUnit, student: ArchivedUnit) -> str:
    metric = next(archive.read(unit, "metrics", Metric))
    model = _stage_of(next(iter(unit.wires.get("models", [""]))))
    name = f"**{model}** (this)" if model == student.name else model
    if model == _stage_of(next(iter(student.wires.get("model", [""])))):
        name = f"{model} (its base)"
    if metric.accuracy is None or metric.low is None or metric.high is None:
        return f"| {name} | no gold answers | | |"
    interval = f"{metric.low * 100:.1f} to {metric.high * 100:.1f} %"
    return f"| {name} | {metric.accuracy * 100:.1f} % | {interval} | {metric.num_correct:,} of {metric.n:,} |"


def _comparison(archive: Archive, evaluation: ArchivedUnit) -> Iterator[str]:
    """The sentence on the comparison that the recipe is about."""
    arm_of = {
        _stage_of(unit.wires["models"][0]): arm
        for arm, unit in archive.scored().items()
        if unit.stage == evaluation.stage and unit.wires.get("models")
    }
    primary = [name for name in archive.facts["primary"] if name in arm_of]
    if len(primary) < 2:
        return
    first, last = primary[0], primary[-1]
    reading = Reading()
    a, b = (arms_of(archive, arm_of[name], reading) for name in (first, last))
    (score,) = compare_arms(a, b, is_named=True)
    yield f"The comparison that the recipe is about, {first} (A) against {last} (B): {score.sentence}."


def _made_of(archive: Archive, student: ArchivedUnit) -> Iterator[str]:
    """A line for every stage that the student comes from, in the order in which they ran."""
    behind = _ancestors(archive, student)
    for unit in archive.units.values():
        if unit.name not in behind:
            continue
        named = [
            f"{name} {shortened(unit.config[name])}"
            for name in _NAMES
            if isinstance(unit.config.get(name), str)
        ]
        sources = [_source(row) for row in archive.facts["sources"] if row["unit"] == unit.name]
        told = [one for one in (unit.manifest.summary, ", ".join(named), "; ".join(sources)) if one]
        yield f"- **{unit.name}** ({unit.uses}): {'; '.join(told)}".rstrip(": ")
    ways = [name for name in ("weights", "curriculum", "budget") if student.wires.get(name)]
    plain = "no token weights and no curriculum: standard distillation"
    yield f"- the student itself took {' and '.join(ways)}" if ways else f"- {plain}"


def _ancestors(archive: Archive, unit: ArchivedUnit) -> set[str]:
    found: set[str] = set()
    left = [unit]
    while left:
        for wires in left.pop().wires.values():
            for wire in wires:
                behind = archive.units.get(_stage_of(wire))
                if behind is not None and behind.name not in found:
                    found.add(behind.name)
                    left.append(behind)
    return found


def _source(row: Mapping[str, Any]) -> str:
    fact = row["fact"]
    if "hub" in fact:
        return f"from the hub's {fact['hub']} at {str(fact['commit'])[:12]}"
    return f"from {shortened(row['original'])} (sha256 {str(fact.get('sha256', ''))[:12]})"


def shortened(value: Any) -> Any:
    """The same data with every absolute path cut to its last name."""
    if isinstance(value, Mapping):
        return {name: shortened(one) for name, one in value.items()}
    if isinstance(value, str):
        return _without_folders(value)
    return [shortened(one) for one in value] if isinstance(value, Sequence) else value


def _without_folders(text: str) -> str:
    if "\n" in text or not re.match(r"(/|~|[A-Za-z]:[\\/])", text):
        return text
    is_windows = text[1:2] == ":"
    return (PureWindowsPath(text) if is_windows else PurePosixPath(text)).name or text


def _fenced(text: str, language: str) -> str:
    """A block of code, its fence longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
