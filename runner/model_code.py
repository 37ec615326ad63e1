"""The code on an export's card: it loads the folder and asks one question, as the export was checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kpod.runner.model_card import Exhibit

_TARGET = re.compile(r"\{(rationale|answer)\}")


def loading_code(exhibit: Exhibit) -> str:
    """Python that runs in the export's folder (or names it), and prints what the student says to the example."""
    is_adapter = exhibit.form == "adapter"
    loader = "AutoModelForSeq2SeqLM" if exhibit.is_seq2seq else "AutoModelForCausalLM"
    lines = ["import torch"] if is_adapter else []
    lines += ["from peft import PeftModel"] if is_adapter else []
    lines += [f"from transformers import {loader}, AutoTokenizer, GenerationConfig", ""]
    lines += [
        'folder = "."  # where this file lies',
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
    ]
    if is_adapter:
        lines += [
            f"base = {loader}.from_pretrained({_base(exhibit)}, dtype=torch.float32)",
            "model = PeftModel.from_pretrained(base, folder).merge_and_unload()",
        ]
    else:
        lines.append(f'model = {loader}.from_pretrained(folder, dtype="auto")')
    lines += [
        "model.generation_config = GenerationConfig.from_pretrained(folder)  # greedy, and where a text ends",
        "",
        f"question = {exhibit.example!r}",
        *_prompting(exhibit),
        f'said = model.generate(inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens={exhibit.max_new_tokens})',
        f"print(tokenizer.decode({_new(exhibit)}, skip_special_tokens=True, clean_up_tokenization_spaces=False))",
    ]
    return "\n".join(lines)


def _base(exhibit: Exhibit) -> str:
    if exhibit.base_id is None:
        return 'f"{folder}/base"'
    return f"{exhibit.base_id!r}, revision={exhibit.base_revision!r}"


def _prompting(exhibit: Exhibit) -> list[str]:
    prompt = exhibit.prompt
    head = _TARGET.split(str(prompt["template"]))[0].rstrip()
    lines = [f'prompt = {head!r}.replace("{{question}}", question)']
    if prompt["format"] == "chat":
        system = [{"role": "system", "content": prompt["system"]}] if prompt["system"] else []
        thinking = {"on": ", enable_thinking=True", "off": ", enable_thinking=False"}
        switch = thinking.get(str(prompt["thinking"]), "")
        lines += [
            f'chat = [*{system!r}, {{"role": "user", "content": prompt}}]',
            f"prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True{switch})",
        ]
    special = "" if exhibit.adds_special_tokens else ", add_special_tokens=False"
    return [*lines, f'inputs = tokenizer(prompt{special}, return_tensors="pt")']


def _new(exhibit: Exhibit) -> str:
    return "said[0]" if exhibit.is_seq2seq else 'said[0, inputs["input_ids"].shape[1]:]'
