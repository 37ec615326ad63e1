"""Whether an exported student answers as it was evaluated; where the two compute otherwise, whether rounding explains the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, Literal

from kpod.runner.archived_student import ArchivedStudent
from kpod.runner.export import ExportError
from kpod.runner.record import Question

ModelForm = Literal["adapter", "merged"]
Dtype = Literal["fp32", "bf16"]

LEAST_CHOSEN_FRAC = 0.95
"""Of the evaluated tokens that an export in another precision must find the most likely. Our choice between what was measured on
SmolLM2 evaluated in bf16 (352 tokens): its export in bf16 0.997, in fp32 0.980; with half of its adapter 0.93, without it 0.73."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What an export said to prompts that its student was evaluated on.

    Args:
        asked, equal: prompts, and those whose text is the archived one.
        said: the outcome in words; why nothing was asked, where it was not.
    """

    asked: int = 0
    equal: int = 0
    said: str


@dataclass(frozen=True, slots=True)
class Export:
    """An export that was written, and what its student said.

    Args:
        student: that was evaluated.
        parts: of it, as `kpod.stages._lm.exporting` has them.
        folder: of the export.
        form: adapter or merged.
        stored: what its weights are stored in.
        questions, texts: what it was asked first, and what it said.
    """

    student: ArchivedStudent
    parts: Any
    folder: Path
    _: KW_ONLY
    form: ModelForm
    stored: Dtype
    questions: Sequence[Question]
    texts: Sequence[str]

    def check(self, exported: Any) -> Check:
        """Ask it the same questions.

        Args:
            exported: the module that loads it, `kpod.stages._lm.exported`.

        Raises:
            ExportError: a text is another one, although export and evaluation both computed in fp32 on the same weights; or
                it would choose so few of the evaluated tokens that rounding does not explain it.
        """
        asked_in: Dtype | None = "bf16" if self.student.is_evaluated_in_half(self.form) else None
        said = exported.answers(
            self.parts, self.folder, self.questions, evaluated=self.texts, dtype=asked_in,
            max_new_tokens=int(self._config["max_new_tokens"]),
        )  # fmt: skip
        pairs = zip(said.texts, self.texts, strict=True)
        differing = [index for index, (new, old) in enumerate(pairs) if new != old]
        equal = len(self.texts) - len(differing)
        told = f"answers as evaluated on {equal} of {len(self.texts)} prompts"
        if differing:
            if self._computes_alike(asked_in or self.stored):
                raise self._another_text(told, differing[0], said.texts[differing[0]])
            told = self._explained(told, said, exported, asked_in or self.stored)
        return Check(asked=len(self.texts), equal=equal, said=told)

    @property
    def _config(self) -> dict[str, Any]:
        assert self.student.evaluation is not None, "texts come from an evaluation"
        return self.student.evaluation.config

    def _computes_alike(self, computed: Dtype) -> bool:
        config = self._config
        return computed == config.get("precision") == "fp32" and not self._quantised

    @property
    def _quantised(self) -> str:
        how = str(self._config.get("quantisation", "none"))
        return "" if how == "none" else how

    def _another_text(self, told: str, index: int, text: str) -> ExportError:
        return ExportError(
            f"{self.student.unit.name}: the export {told}; first apart is question {self.questions[index].id}\n"
            f"  evaluated: {self.texts[index]!r}\n  export: {text!r}\n"
            "nothing was exported; other versions of torch or transformers than the run's can do this: --no-check exports it anyway"
        )

    def _explained(self, told: str, said: Any, exported: Any, computed: Dtype) -> str:
        """How many of the evaluated tokens the export would choose, and where these are few, that it is the student all the same."""
        precision = self._config.get("precision")
        how = f" with weights in {self._quantised}" if self._quantised else ""
        num = len(said.known)
        told = (
            f"{told}, and would choose {_num_same(said.choices, said.known):,} of the {num:,} tokens evaluated"
            f" (it computes in {computed}, the evaluation in {precision}{how}"
        )
        if _are_enough(said.choices, said.known):
            return f"{told})"
        if (
            self.form == "merged"
            and self.student.base is not None
            and precision in ("fp32", "bf16")
        ):
            apart = {
                dtype: exported.choices_apart(
                    self.parts, self.folder, self.questions, self.texts, dtype=dtype
                )
                for dtype in {precision, computed}
            }
            there, here = apart[precision], apart[computed]
            told += (
                f"; base and adapter apart choose {_num_same(there, said.known):,} of them in {precision},"
                f" and what the export chooses {_num_same(here, said.choices):,} times in {computed}"
            )
            if _are_enough(there, said.known) and _are_enough(here, said.choices):
                return f"{told})"
        raise ExportError(
            f"{self.student.unit.name}: the export {told}), and rounding does not explain that\n"
            f"needed: {LEAST_CHOSEN_FRAC:.0%} of them; nothing was exported: --no-check exports it anyway"
        )


def _num_same(choices: Sequence[int], others: Sequence[int]) -> int:
    return sum(one == other for one, other in zip(choices, others, strict=True))


def _are_enough(choices: Sequence[int], others: Sequence[int]) -> bool:
    return _num_same(choices, others) >= LEAST_CHOSEN_FRAC * len(others)
