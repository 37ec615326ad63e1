"""Texts a CPU second of our engine beside transformers' `generate`, one prompt after another.

    python tests/benchmarks/generation.py [--rounds 3] [--layers 4] [--json FILE]

Random weights, fp32, one thread, greedy. An end token is chosen so that rows stop at different lengths; what both write is
compared word for word. tiny: the quickstart's shape (width 96, 2 layers), 64 prompts of 12 to 90 tokens, at most 128 new ones,
all in one batch. half_b: the shape of Qwen2.5-0.5B (width 896, vocabulary 151,936) with `--layers` of its 24 layers, 32 prompts
of 40 to 120 tokens, at most 48 new ones, all in one batch. refill: tiny, a budget that holds 16 rows of the 64, with and without filling
batches up as rows leave them. prefix: 64 questions behind 300 common tokens, with and without reading those once.
Figures are medians over rounds of CPU time (`time.process_time`), ours with looking up, claiming and storing.
Goals (issue 4): at least 12 times one by one for tiny, 5 times for half_b.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

GOALS = {"tiny": 12.0, "half_b": 5.0}


class Task(NamedTuple):
    """A model, what it is asked, and the tokens that end its texts."""

    model: Any
    prompts: list[tuple[int, ...]]
    max_new: int
    end_ids: tuple[int, ...]
    batch_tokens: int


class Words:
    """Stands for a tokenizer: every token is its number."""

    pad_token_id = 0

    def decode(self, ids: Sequence[int], **_: object) -> str:
        """The numbers, with spaces between."""
        return " ".join(map(str, ids))


def random_model(**shape: Any) -> Any:
    """A Qwen2 with random weights, wide enough apart that its texts vary."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    made = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, **shape)).eval()
    made.generation_config.pad_token_id = 0
    return made


def tiny_task(*, prefix: int = 0, rows_at_once: int = 64, num_prompts: int = 64) -> Task:
    """The quickstart's shape."""
    shape = {
        "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 256, "vocab_size": 256, "initializer_range": 0.2, "max_position_embeddings": 1024,
    }  # fmt: skip
    return make_task(
        random_model(**shape), num_prompts=num_prompts, lengths=(12, 90), max_new=128, prefix=prefix,
        rows_at_once=rows_at_once,
    )  # fmt: skip


def half_b_task(*, layers: int) -> Task:
    """The shape of Qwen2.5-0.5B."""
    shape = {
        "hidden_size": 896, "num_hidden_layers": layers, "num_attention_heads": 14, "num_key_value_heads": 2,
        "intermediate_size": 4864, "vocab_size": 151_936, "initializer_range": 0.05, "max_position_embeddings": 1024,
    }  # fmt: skip
    return make_task(
        random_model(**shape), num_prompts=32, lengths=(40, 120), max_new=48, prefix=0, rows_at_once=32
    )  # fmt: skip


def make_task(
    model: Any,
    *,
    num_prompts: int,
    lengths: tuple[int, int],
    max_new: int,
    prefix: int,
    rows_at_once: int,
) -> Task:
    """Random prompts, and end tokens that stop rows all over their length, on average at about a half."""
    draw = random.Random(0)
    shared = tuple(draw.randrange(3, 250) for _ in range(prefix))
    prompts = [
        shared + tuple(draw.randrange(3, 250) for _ in range(draw.randint(*lengths)))
        for _ in range(num_prompts)
    ]
    width = prefix + lengths[1] + max_new
    unending = Task(model, prompts, max_new, (), width * rows_at_once)
    said = [[int(word) for word in text.split()] for text in ours(unending)]
    counts: dict[int, int] = {}
    for ids in said:
        for token in set(ids):
            counts[token] = counts.get(token, 0) + 1
    ends: list[int] = []
    # The commonest tokens first, until the texts are half as long; never one that ends most at once.
    for token in sorted(counts, key=lambda token: (-counts[token], token)):
        lengths_now = [_length(ids, [*ends, token]) for ids in said]
        if statistics.mean(lengths_now) >= 0.45 * max_new:
            ends.append(token)
    return unending._replace(end_ids=tuple(ends))


def _length(ids: Sequence[int], ends: Sequence[int]) -> int:
    return next((place for place, token in enumerate(ids) if token in ends), len(ids))


def ours(task: Task) -> list[str]:
    """What the engine writes, in a store of its own."""
    from kpod.runner.texts import TextStore
    from kpod.stages._lm.decoding import Decoding
    from kpod.stages._lm.generation import Request, generate_texts
    from kpod.stages._lm.loading import Limits

    words: Any = Words()
    with tempfile.TemporaryDirectory() as folder:
        store = TextStore(Path(folder) / "texts.sqlite")
        texts = generate_texts(
            lambda: task.model, words, [Request(prompt_ids=ids) for ids in task.prompts],
            Decoding(max_new_tokens=task.max_new), limits=Limits(frozenset(task.end_ids), 1024),
            batch_tokens=task.batch_tokens, store=store, model_facts={"model": "bench"},
            on_progress=lambda _: None,
        )  # fmt: skip
        store.close()
    return [text.text for text in texts]


def one_by_one(task: Task) -> list[str]:
    """What `generate` writes."""
    import torch

    said = []
    for prompt in task.prompts:
        ids = torch.tensor([prompt])
        out = task.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=task.max_new, do_sample=False,
            eos_token_id=list(task.end_ids) or None,
        )  # fmt: skip
        new = out[0, len(prompt) :].tolist()
        said.append(" ".join(map(str, new[: _length(new, task.end_ids)])))
    return said


def without_refill(task: Task) -> list[str]:
    """The engine, its batches run to their end."""
    from kpod.stages._lm import writing_loop

    kept = writing_loop._REFILL_AT_FRAC
    writing_loop._REFILL_AT_FRAC = -1
    try:
        return ours(task)
    finally:
        writing_loop._REFILL_AT_FRAC = kept


def without_prefix(task: Task) -> list[str]:
    """The engine, every prompt read whole."""
    from kpod.stages._lm import waiting_rows

    kept = waiting_rows._SHORTEST_PREFIX
    waiting_rows._SHORTEST_PREFIX = 10**6
    try:
        return ours(task)
    finally:
        waiting_rows._SHORTEST_PREFIX = kept


def packed(task: Task) -> Task:
    """The task with a copy of the model as a stage would load it to write."""
    import copy

    from kpod.stages._lm.packed_weights import pack_weights

    model = copy.deepcopy(task.model)
    pack_weights(model)
    return task._replace(model=model)


def compare(
    task: Task, fast: Callable[[Task], list[str]], slow: Callable[[Task], list[str]], *, rounds: int
) -> dict[str, float]:
    """CPU seconds of both, one after the other so that a busy machine slows both, and the ratio of their medians."""
    seconds: dict[str, list[float]] = {"fast": [], "slow": []}
    said: dict[str, list[str]] = {}
    tasks = {"fast": packed(task), "slow": task if slow is one_by_one else packed(task)}
    for _ in range(rounds):
        for name, write in (("fast", fast), ("slow", slow)):
            began = time.process_time()
            said[name] = write(tasks[name])
            seconds[name].append(time.process_time() - began)
    num_tokens = sum(len(text.split()) for text in said["fast"])
    found = {name: statistics.median(values) for name, values in seconds.items()}
    num_equal = sum(a == b for a, b in zip(said["fast"], said["slow"], strict=True))
    return {
        "times": found["slow"] / found["fast"],
        "fast_tokens_s": num_tokens / found["fast"],
        "slow_tokens_s": num_tokens / found["slow"],
        "mean_tokens": num_tokens / len(task.prompts),
        "equal_frac": num_equal / len(task.prompts),
    }


def main() -> None:
    """Print the figures; exit 1 where a goal is missed."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=["tiny", "half_b", "refill", "prefix"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kinds: dict[
        str, tuple[Callable[[], Task], Callable[..., list[str]], Callable[..., list[str]]]
    ] = {
        "tiny": (tiny_task, ours, one_by_one),
        "half_b": (lambda: half_b_task(layers=arguments.layers), ours, one_by_one),
        "refill": (lambda: tiny_task(rows_at_once=16, num_prompts=256), ours, without_refill),
        "prefix": (lambda: tiny_task(prefix=300), ours, without_prefix),
    }
    found = {}
    for name in arguments.only:
        make, fast, slow = kinds[name]
        found[name] = compare(make(), fast, slow, rounds=arguments.rounds)
        print(
            name, " ".join(f"{key} {value:.3g}" for key, value in found[name].items()), flush=True
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    missed = [name for name in found if found[name]["times"] < GOALS.get(name, 0)]
    if missed:
        sys.exit(f"below its goal: {', '.join(missed)}")


if __name__ == "__main__":
    main()
