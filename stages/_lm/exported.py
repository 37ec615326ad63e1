"""What an exported student says in plain transformers and peft, beside what it said when it was evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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
        num_chosen: tokens of the evaluated texts that are the most likely ones for it, those before them given.
        num_tokens: of these texts.
    """

    texts: list[str]
    num_chosen: int
    num_tokens: int


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
    texts, num_chosen, num_tokens = [], 0, 0
    for question, known in zip_longest(questions, evaluated, fillvalue=""):
        assert isinstance(question, Question), "as many texts as questions, or none"
        text = prompt_text(tokenizer, parts.prompt, question)
        inputs = tokenizer(text, add_special_tokens=adds, return_tensors="pt")
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
        texts.append(
            tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        )
        known_ids = tokenizer(known, add_special_tokens=False)["input_ids"]
        if known_ids:
            num_tokens += len(known_ids)
            num_chosen += _num_chosen(model, inputs["input_ids"], known_ids, kind)
    return Answers(texts, num_chosen, num_tokens)


def _num_chosen(model: Any, prompt_1T: torch.Tensor, known_ids: Sequence[int], kind: Family) -> int:
    """How many of these tokens, which follow the prompt, the model finds the most likely where they stand."""
    import torch

    known_1T = torch.tensor([known_ids])
    with torch.inference_mode():
        if kind == "seq2seq":
            logits_1TV = model(input_ids=prompt_1T, labels=known_1T).logits
        else:
            logits_1TV = model(input_ids=torch.cat((prompt_1T, known_1T), 1)).logits
            logits_1TV = logits_1TV[:, prompt_1T.shape[1] - 1 : -1]
    return int((logits_1TV.argmax(-1) == known_1T).sum())


def _plain_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with quiet():
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    return found


def _plain_model(parts: Parts, folder: Path, kind: Family, dtype: Dtype | None) -> Any:
    """As the card says that it is loaded, maybe in another type; the base of an adapter from here, whatever hub it is on."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

    loader: Any = AutoModelForSeq2SeqLM if kind == "seq2seq" else AutoModelForCausalLM
    is_adapter = (folder / "adapter_config.json").is_file()
    copied = folder / BASE_FOLDER
    source = (copied if copied.is_dir() else parts.files.weights) if is_adapter else folder
    types: dict[str | None, Any] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    computed = types.get(dtype, torch.float32 if is_adapter else "auto")
    with quiet():
        model = loader.from_pretrained(str(source), dtype=computed, local_files_only=True)
        if is_adapter:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, str(folder))
            if computed is torch.float32:  # in half precision a merged weight is another weight
                model = model.merge_and_unload()
        model.generation_config = GenerationConfig.from_pretrained(str(folder))
    return model.eval()
