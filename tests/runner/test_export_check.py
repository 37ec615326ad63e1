"""What an export says beside what its student said: the same, other words that rounding explains, or another student's."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kpod.runner import Question
from kpod.runner.export import ExportError
from kpod.runner.export_check import Check, Dtype, Export, ModelForm

TEXT = "a b c d e f g h i j k l m n o p q r s t"
KNOWN = list(range(20))


def _wrong(number: int) -> list[int]:
    """The known tokens, but for so many."""
    return [99] * number + KNOWN[number:]


class Exported:
    """Stands for the module that loads an export, and notes in what base and adapter were asked apart."""

    def __init__(self, *, text: str, choices: list[int], apart: dict[str, list[int]]) -> None:
        self.said = SimpleNamespace(texts=[text], known=KNOWN, choices=choices)
        self.apart = apart
        self.asked_in: list[str] = []
        self.dtype: str | None = None

    def answers(self, *_: Any, dtype: str | None, **__: Any) -> Any:
        self.dtype = dtype
        return self.said

    def choices_apart(self, *_: Any, dtype: str) -> list[int]:
        self.asked_in.append(dtype)
        return self.apart[dtype]


def checked(
    exported: Exported,
    *,
    form: ModelForm = "merged",
    stored: Dtype = "fp32",
    precision: str = "bf16",
    quantisation: str = "none",
) -> Check:
    config = {"precision": precision, "quantisation": quantisation, "max_new_tokens": 32}
    student: Any = SimpleNamespace(
        unit=SimpleNamespace(name="standard"), base=("base", "model"), evaluation=SimpleNamespace(config=config),
        is_evaluated_in_half=lambda form: form == "adapter" and (precision, quantisation) == ("bf16", "none"),
    )  # fmt: skip
    question = Question.make("How many?", kind="numeric", answer="3", split="test", source="test")
    export = Export(
        student, None, Path(), form=form, stored=stored, questions=[question], texts=[TEXT]
    )
    return export.check(exported)


def test_the_same_texts_need_no_more_words() -> None:
    exported = Exported(text=TEXT, choices=KNOWN, apart={})

    assert checked(exported) == Check(
        asked=1, equal=1, said="answers as evaluated on 1 of 1 prompts"
    )
    assert exported.asked_in == []


def test_in_another_precision_most_of_the_tokens_are_enough() -> None:
    exported = Exported(text="other", choices=_wrong(1), apart={})

    assert checked(exported).said == (
        "answers as evaluated on 0 of 1 prompts, and would choose 19 of the 20 tokens evaluated"
        " (it computes in fp32, the evaluation in bf16)"
    )
    assert exported.asked_in == []


def test_a_merged_student_that_is_its_adapter_and_base_is_exported_however_unsure_it_is() -> None:
    exported = Exported(text="other", choices=_wrong(4), apart={"bf16": _wrong(1), "fp32": _wrong(4)})  # fmt: skip

    assert checked(exported).said == (
        "answers as evaluated on 0 of 1 prompts, and would choose 16 of the 20 tokens evaluated"
        " (it computes in fp32, the evaluation in bf16; base and adapter apart choose 19 of them in bf16,"
        " and what the export chooses 20 times in fp32)"
    )
    assert sorted(exported.asked_in) == ["bf16", "fp32"]


@pytest.mark.parametrize(
    ("apart", "why"),
    [
        ({"bf16": _wrong(4), "fp32": _wrong(4)}, "the archived texts are another student's"),
        ({"bf16": KNOWN, "fp32": _wrong(1)}, "the merged weights are not adapter and base"),
    ],
)
def test_what_rounding_does_not_explain_is_refused(apart: dict[str, list[int]], why: str) -> None:
    with pytest.raises(
        ExportError, match="and rounding does not explain that\nneeded: 95% of them"
    ):
        pytest.fail(
            f"{why}: {checked(Exported(text='other', choices=_wrong(4), apart=apart)).said}"
        )


def test_in_one_precision_base_and_adapter_are_asked_once() -> None:
    exported = Exported(text="other", choices=_wrong(4), apart={"bf16": _wrong(4)})

    with pytest.raises(ExportError, match="apart choose 16 of them in bf16"):
        checked(exported, stored="bf16")
    assert exported.asked_in == ["bf16"]


def test_an_adapter_is_asked_in_the_evaluation_s_precision_and_never_apart() -> None:
    exported = Exported(text="other", choices=_wrong(4), apart={})

    with pytest.raises(ExportError, match="would choose 16 of the 20 tokens"):
        checked(exported, form="adapter")
    assert (exported.dtype, exported.asked_in) == ("bf16", [])


def test_where_both_computed_in_fp32_another_text_is_refused() -> None:
    exported = Exported(text="other", choices=KNOWN, apart={})

    with pytest.raises(ExportError, match=r"0 of 1 prompts; first apart is question \S+\n"):
        checked(exported, precision="fp32")


def test_where_weights_were_quantised_the_words_say_so() -> None:
    exported = Exported(text="other", choices=KNOWN, apart={})

    said = checked(exported, precision="fp32", quantisation="nf4").said
    assert said.endswith("(it computes in fp32, the evaluation in fp32 with weights in nf4)")
