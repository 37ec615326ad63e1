"""What an exported student says in plain transformers and peft, beside what it said when it was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from kpod.runner import Question, StageError
from kpod.stages._lm.exporting import BASE_FOLDER, Dtype, Parts
from kpod.stages._lm.family import Family, family
from kpod.stages._lm.loading import quiet, read_limits
from kpod.stages._lm.prompts import model_inputs, prompt_text, question_text

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


def asked_as(question: Question) -> str:
    """A question with its choices, as it stands in the prompt."""
    return question_text(question)


def adds_special_tokens(parts: Parts, folder: Path, question: Question) -> bool:
    """How a plain tokenizer call reads a prompt as kpod does: with the tokenizer's special tokens, or without.

    Raises:
        StageError: neither way.
    """
    tokenizer, kind = _plain_tokenizer(folder), family(parts.spec)
    text = prompt_text(tokenizer, parts.prompt, question)
    wanted = model_inputs(tokenizer, parts.prompt, [question], family=kind)[0]
    for adds in (True, False):
        if tokenizer(text, add_special_tokens=adds)["input_ids"] == wanted:
            return adds
    raise StageError(
        f"{parts.spec.architecture}: its tokenizer reads a prompt otherwise than kpod does, with special tokens and without\n"
        "use the student in kpod, or export a student of another base"
    )


class Answers(NamedTuple):
    """What an export says.

    Args:
        texts: its own, one a question.
        known: the tokens of the evaluated texts, one text after another.
        choices: what the export finds the most likely where each of these stands, those before it given.
    """

    texts: list[str]
    known: list[int]
    choices: list[int]


def answers(
    parts: Parts,
    folder: Path,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    evaluated: Sequence[str] = (),
    dtype: Dtype | None = None,
) -> Answers:
    """What an export says to questions, loaded by plain transformers and peft, greedily, one question at a time.

    Args:
        parts: of the student that was exported.
        folder: of the export.
        questions: at least one.
        max_new_tokens: as in the evaluation.
        evaluated: what the evaluated student said to each, to be read token by token; none: nothing is read.
        dtype: to compute in; None: what the card loads it in.

    Raises:
        StageError: as `adds_special_tokens`.
    """
    import torch

    kind = family(parts.spec)
    tokenizer = _plain_tokenizer(folder)
    adds = adds_special_tokens(parts, folder, questions[0])
    model = _plain_model(parts, folder, kind, dtype)
    room = read_limits(parts.files, tokenizer).context_tokens if kind == "causal" else None
    found = Answers([], [], [])
    for question, text in zip_longest(questions, evaluated, fillvalue=""):
        assert isinstance(question, Question), "as many texts as questions, or none"
        inputs = _inputs(parts, tokenizer, question, adds=adds)
        length = inputs["input_ids"].shape[1]
        with torch.inference_mode():
            said = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=max_new_tokens
                if room is None
                else min(max_new_tokens, room - length),
            )
        new = said[0] if kind == "seq2seq" else said[0, length:]
        found.texts.append(
            tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )
        known = tokenizer(text, add_special_tokens=False)["input_ids"]
        found.known.extend(known)
        found.choices.extend(_choices(model, inputs["input_ids"], known, kind))
    return found


def choices_apart(
    parts: Parts, folder: Path, questions: Sequence[Question], evaluated: Sequence[str], *, dtype: Dtype
) -> list[int]:  # fmt: skip
    """As `Answers.choices`, of base and adapter side by side, as they were trained, and not of the export.

    Args:
        parts: of a student with an adapter.
        folder: of the export, for its tokenizer.
        questions: at least one.
        evaluated: a text each.
        dtype: to compute in.
    """
    kind = family(parts.spec)
    tokenizer = _plain_tokenizer(folder)
    adds = adds_special_tokens(parts, folder, questions[0])
    model = _loaded(kind, parts.files.weights, dtype, adapter=parts.student)
    found: list[int] = []
    for question, text in zip(questions, evaluated, strict=True):
        inputs = _inputs(parts, tokenizer, question, adds=adds)
        known = tokenizer(text, add_special_tokens=False)["input_ids"]
        found += _choices(model, inputs["input_ids"], known, kind)
    return found


def _inputs(parts: Parts, tokenizer: Any, question: Question, *, adds: bool) -> Any:
    text = prompt_text(tokenizer, parts.prompt, question)
    return tokenizer(text, add_special_tokens=adds, return_tensors="pt")


def _choices(
    model: Any, prompt_1T: torch.Tensor, known_ids: Sequence[int], kind: Family
) -> list[int]:
    """What the model finds the most likely where each of these tokens stands, which follow the prompt."""
    import torch

    if not known_ids:
        return []
    known_1T = torch.tensor([known_ids])
    with torch.inference_mode():
        if kind == "seq2seq":
            logits_1TV = model(input_ids=prompt_1T, labels=known_1T).logits
        else:
            logits_1TV = model(input_ids=torch.cat((prompt_1T, known_1T), 1)).logits
            logits_1TV = logits_1TV[:, prompt_1T.shape[1] - 1 : -1]
    found: list[int] = logits_1TV.argmax(-1)[0].tolist()
    return found


def _plain_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with quiet():
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    return found


def _plain_model(parts: Parts, folder: Path, kind: Family, dtype: Dtype | None) -> Any:
    """As the card says that it is loaded, maybe in another type; the base of an adapter from here, whatever hub it is on."""
    from transformers import GenerationConfig

    is_adapter = (folder / "adapter_config.json").is_file()
    copied = folder / BASE_FOLDER
    source = (copied if copied.is_dir() else parts.files.weights) if is_adapter else folder
    computed = dtype or ("fp32" if is_adapter else "auto")
    model = _loaded(kind, source, computed, adapter=folder if is_adapter else None)
    if is_adapter and computed == "fp32":  # in half precision a merged weight is another weight
        model = model.merge_and_unload()
    with quiet():
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model


def _loaded(
    kind: Family, source: Path, dtype: Dtype | Literal["auto"], *, adapter: Path | None
) -> Any:
    """A model by plain transformers and, with an adapter beside its weights, peft; in eval mode."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    types: dict[str, Any] = {"fp32": torch.float32, "bf16": torch.bfloat16, "auto": "auto"}
    loader = AutoModelForSeq2SeqLM if kind == "seq2seq" else AutoModelForCausalLM
    with quiet():
        model = loader.from_pretrained(str(source), dtype=types[dtype], local_files_only=True)
        if adapter is not None:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(adapter))
    return model.eval()
