"""The card of an exported student: what stands on it, what must not, and code that is Python."""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kpod.runner import document
from kpod.runner.archive import Archive
from kpod.runner.model_card import Exhibit, model_card, shortened
from kpod.runner.model_code import loading_code
from tests.stages.report_runs import method_run

TEMPLATE = "Q: {question} A: Let's think. {rationale} Therefore, the answer is {answer}"
PLAIN: Mapping[str, Any] = {
    "name": "cot", "version": 1, "template": TEMPLATE, "format": "plain", "system": None, "thinking": "off",
}  # fmt: skip
EXHIBIT = Exhibit(
    form="adapter", dtype="fp32", architecture="Qwen3ForCausalLM", is_seq2seq=False, prompt=PLAIN, base_id=None,
    base_revision=None, adds_special_tokens=True, example="it's 'quoted'\n\"twice\"", max_new_tokens=96,
    check="answers as evaluated on 8 of 8 prompts",
)  # fmt: skip


def card_of(archive: Archive, exhibit: Exhibit = EXHIBIT, *, is_scored: bool = True) -> str:
    """The card of the arm `kpod`."""
    evaluation = archive.scored()["kpod"] if is_scored else None
    return model_card(archive, archive.units["kpod"], evaluation, exhibit)


def made(folder: Path, **facts: Any) -> Archive:
    """A run of the whole method."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = method_run(folder)
    if facts:
        path = folder / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **facts}), "utf-8")
    return Archive(folder) if facts else archive


def front_matter(card: str, folder: Path) -> dict[str, Any]:
    """The front matter as YAML reads it."""
    path = folder / "front.yaml"
    path.write_text(card.split("---\n")[1], encoding="utf-8")
    plain: dict[str, Any] = document.plain(document.load_document(path))
    return plain


def test_scores_stand_with_n_and_interval_beside_the_compared_arm_and_no_winner_in_the_noise(
    tmp_path: Path,
) -> None:
    card = card_of(made(tmp_path / "run"))

    assert "| **kpod** (this) | 78.3 % | 66.4 to 86.9 % | 47 of 60 |" in card
    assert "| standard | 66.7 %" in card
    assert "standard_tokens |" not in card
    assert "standard (A) against kpod (B): on 60 shared questions" in card
    assert "inside the noise, no winner" in card
    assert "One seed (42): an observation" in card
    assert "answers as evaluated on 8 of 8 prompts" in card


def test_what_the_student_comes_from_is_told_and_nothing_else(tmp_path: Path) -> None:
    archive = made(tmp_path / "run")
    lines = card_of(archive).partition("## What it was trained on")[2].splitlines()
    told = {line.split("**")[1] for line in lines if line.startswith("- **")}

    assert {"questions", "rationales", "weights", "curriculum", "difficulty", "clusters"} <= told
    assert not told & {"kpod", "standard", "standard_tokens"}
    assert "- the student itself took weights and curriculum" in lines


def test_the_front_matter_names_the_base_only_where_the_hub_has_it(tmp_path: Path) -> None:
    archive = made(tmp_path / "run")
    hub = replace(EXHIBIT, form="merged", base_id="Qwen/Qwen3-0.6B", base_revision="0123abcd")

    local = front_matter(card_of(archive), tmp_path)
    named = front_matter(card_of(archive, hub), tmp_path)

    assert local["library_name"] == "peft"
    assert "base_model" not in local
    assert "license" not in local
    assert (named["library_name"], named["base_model"]) == ("transformers", "Qwen/Qwen3-0.6B")
    assert "Neither the recipe nor its data name a licence" in card_of(archive)


def test_a_hub_s_data_set_is_named_in_the_front_matter(tmp_path: Path) -> None:
    row = {
        "unit": "questions", "setting": "hub", "original": "dataset:openai/gsm8k@main",
        "fact": {"hub": "openai/gsm8k", "commit": "0123456789abcdef"}, "archived": None,
    }  # fmt: skip

    card = card_of(made(tmp_path / "run", sources=[row]))

    assert front_matter(card, tmp_path)["datasets"] == ["openai/gsm8k"]
    assert "from the hub's openai/gsm8k at 0123456789ab" in card


def test_no_path_of_the_machine_stands_on_a_card(tmp_path: Path) -> None:
    row = {
        "unit": "questions", "setting": "path", "original": "/data/ann/train.json",
        "fact": {"sha256": "f" * 64}, "archived": "inputs/train.json",
    }  # fmt: skip
    archive = made(tmp_path / "run", sources=[row])
    plain = {
        "kpod": 1,
        "name": "a",
        "stages": {"q": {"with": {"train": "/data/ann/train.json"}}},
    }
    (archive.folder / "resolved.yaml").write_text(document.dump(plain), encoding="utf-8")

    card = card_of(archive)

    assert "/data/ann" not in card
    assert str(tmp_path) not in card
    assert card.count("train.json") == 2


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/a/b/c.json", "c.json"),
        ("C:\\data\\c.json", "c.json"),
        ("~/c.json", "c.json"),
        ("owner/name", "owner/name"),
        ("Q: {question}\nA:", "Q: {question}\nA:"),
        ("/", "/"),
    ],
)
def test_paths_are_cut_to_their_last_name_and_other_texts_are_not(text: str, left: str) -> None:
    assert shortened({"a": [text, 1, None]}) == {"a": [left, 1, None]}


def test_a_student_that_nothing_evaluated_says_so(tmp_path: Path) -> None:
    card = card_of(made(tmp_path / "run"), is_scored=False)

    assert "The run evaluated nothing of this student." in card


def test_a_student_that_answers_at_once_is_not_said_to_reason(tmp_path: Path) -> None:
    at_once = {**PLAIN, "name": "answer_only", "template": "Q: {question} A: {answer}"}
    archive = made(tmp_path / "run")

    card = card_of(archive, replace(EXHIBIT, prompt=at_once))

    assert "to answer at once" in card
    assert "chain-of-thought" not in front_matter(card, tmp_path)["tags"]
    assert "chain-of-thought" in front_matter(card_of(archive), tmp_path)["tags"]


def test_a_recipe_with_a_fence_in_it_does_not_end_the_block(tmp_path: Path) -> None:
    archive = made(tmp_path / "run")
    plain = {"kpod": 1, "name": "a", "template": "```text\n{question}\n```", "stages": {}}
    (archive.folder / "resolved.yaml").write_text(document.dump(plain), encoding="utf-8")

    assert card_of(archive).count("````") == 2


CHAT = {**PLAIN, "format": "chat", "system": "say 'yes'"}


@pytest.mark.parametrize(
    ("changes", "stands"),
    [
        ({}, ['PeftModel.from_pretrained(base, folder)', 'f"{folder}/base"']),
        ({"base_id": "a/b", "base_revision": "0123"}, ["from_pretrained('a/b', revision='0123', dtype"]),
        ({"form": "merged"}, ['AutoModelForCausalLM.from_pretrained(folder, dtype="auto")']),
        ({"form": "merged", "is_seq2seq": True}, ["AutoModelForSeq2SeqLM", "tokenizer.decode(said[0], "]),
        ({"prompt": CHAT}, ["enable_thinking=False", "apply_chat_template", "say 'yes'"]),
        ({"prompt": {**CHAT, "thinking": "keep"}}, ["add_generation_prompt=True)"]),
        ({"adds_special_tokens": False}, ["add_special_tokens=False"]),
    ],
)  # fmt: skip
def test_the_code_on_a_card_is_python_for_what_was_exported(
    changes: dict[str, Any], stands: list[str]
) -> None:
    code = loading_code(replace(EXHIBIT, **changes))

    ast.parse(code)
    assert [text for text in stands if text not in code] == []
    assert ast.literal_eval(code.partition("question = ")[2].splitlines()[0]) == EXHIBIT.example
