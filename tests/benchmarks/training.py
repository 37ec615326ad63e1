"""Tokens a CPU second of our training loop beside TRL's SFTTrainer, and whether both compute the same losses.

    python tests/benchmarks/training.py [--pairs 5] [--steps 20] [--json FILE]

Same tiny model (the quickstart's shape), sequences, batches, optimizer, precision (fp32, one thread) and learning rate.
Each pair runs ours, TRL with its defaults and TRL without activation checkpointing one after another, so that a busy
machine slows all three; figures are medians over pairs of CPU time (`time.process_time`) spent in training alone.
TRL's own default precision is bf16, which is slower still on a CPU without bf16 hardware: it is given fp32.
Goals (issue 1): at least 2.5 times TRL's defaults and 1.5 times TRL without checkpointing; losses equal to 1e-3, since
TRL logs four digits (the 1e-5 against plain cross-entropy is a test: test_loop_training.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

BATCH_SIZE = 32
LEARNING_RATE = 4e-3
GOALS = {"trl": 2.5, "trl_without_checkpointing": 1.5}


class Run(NamedTuple):
    """One training: CPU seconds, and the loss of every step where it was asked for."""

    seconds: float
    losses: list[float]


class Task(NamedTuple):
    """What all of them train: located model, tokenizer, sequences in the order of training."""

    files: Any
    tokenizer: Any
    examples: list[Any]

    @property
    def num_tokens(self) -> int:
        return sum(example.num_tokens for example in self.examples)


def make_task(root: Path, *, num_steps: int) -> Task:
    """The quickstart's data and model shape, with random weights."""
    from kpod.runner import Rationale
    from kpod.stages._lm.artifact import ModelFiles, read_spec
    from kpod.stages._lm.encoding import encode_examples
    from kpod.stages._lm.loading import load_tokenizer
    from kpod.stages._lm.prompts import PromptConfig
    from kpod.stages.data import word_problems
    from kpod.stages.data._phrases import vocabulary
    from kpod.stages.model import from_config
    from tests.stages.fakes import FakeContext

    words = root / "words.txt"
    words.write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    made = FakeContext(
        config=from_config.Config(words=str(words)), sources={"words": words}, root=root
    )
    from_config.FromConfig().run(made)
    folder = made.folders["model"]
    files = ModelFiles(folder, None, read_spec(folder), "model")
    size = num_steps * BATCH_SIZE
    data = FakeContext(config=word_problems.Config(num_train=size, num_validation=0, num_test=1))
    word_problems.WordProblems().run(data)
    questions = data.rows("train")
    tokenizer = load_tokenizer(files)
    encoded = encode_examples(
        tokenizer,
        questions=questions,
        rationales=[Rationale.make(q.id, q.solution, teacher="reference") for q in questions],
        prompt=PromptConfig().resolve(),
        max_length=256,
    )
    return Task(files, tokenizer, list(encoded.examples))


def run_ours(task: Task) -> Run:
    """Our loop, checkpoints off as in the others."""
    from kpod.stages._lm.loading import load_causal_lm
    from kpod.stages.student._batches import StepPlan
    from kpod.stages.student._loop import train
    from kpod.stages.student._loss import take_apart
    from kpod.stages.student._schedule import Schedule
    from kpod.stages.student._training import Training
    from tests.stages.fakes import FakeContext

    model = load_causal_lm(task.files, precision="fp32", device="cpu")
    student = take_apart(model, precision="fp32", probe_ids=task.examples[0].prompt_ids[:8])
    plan = StepPlan(
        num_examples=len(task.examples),
        batch_size=BATCH_SIZE,
        seed=0,
        num_steps=-(-len(task.examples) // BATCH_SIZE),
    )
    schedule = Schedule(
        name="constant", peak=LEARNING_RATE, warmup_frac=0.0, num_steps=plan.num_steps
    )
    training = Training(
        plan=plan, schedule=schedule, normalise="targets", weight_decay=0.0, grad_clip=1.0, micro_batch_tokens=4096,
        checkpoint_every_s=1e9,
    )  # fmt: skip
    ctx = FakeContext(config=None)
    start = time.process_time()
    train(ctx, student, task.examples, training)
    return Run(time.process_time() - start, [facts["loss"] for _, _, _, facts in ctx.steps])


def run_trl(task: Task, folder: Path, *, is_checkpointing: bool, logging_steps: int) -> Run:
    """SFTTrainer on the same token ids, masks and batches, in the same order."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from kpod.stages._lm.loading import load_causal_lm
    from kpod.stages.student._batches import epoch_order

    order = epoch_order(len(task.examples), seed=0, epoch=1)
    rows = [
        {
            "input_ids": [*example.prompt_ids, *example.completion.ids],
            "completion_mask": [0] * len(example.prompt_ids) + [1] * len(example.completion.ids),
        }
        for example in (task.examples[index] for index in order)
    ]
    settings = SFTConfig(
        output_dir=str(folder), per_device_train_batch_size=BATCH_SIZE, num_train_epochs=1,
        learning_rate=LEARNING_RATE, lr_scheduler_type="constant", warmup_steps=0, weight_decay=0.0,
        max_grad_norm=1.0, bf16=False, use_cpu=True, save_strategy="no", report_to="none", disable_tqdm=True,
        gradient_checkpointing=is_checkpointing, logging_steps=logging_steps, completion_only_loss=True,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    trainer = SFTTrainer(
        model=load_causal_lm(task.files, precision="fp32", device="cpu"), args=settings,
        train_dataset=Dataset.from_list(rows), processing_class=task.tokenizer,
    )  # fmt: skip
    trainer.log = lambda logs, *_: trainer.state.log_history.append(dict(logs))
    start = time.process_time()
    trainer.train()
    seconds = time.process_time() - start
    return Run(seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row])


def lower_bound(ratios: Sequence[float], *, num_draws: int = 5000) -> float:
    """Lower end of the 90 % bootstrap interval of the median."""
    stream = random.Random(0)
    medians = sorted(
        statistics.median(stream.choices(ratios, k=len(ratios))) for _ in range(num_draws)
    )
    return medians[num_draws // 20]


def measure(task: Task, root: Path, *, num_pairs: int) -> dict[str, Any]:
    """Interleaved runs; the first of each is thrown away."""
    runs = {
        "ours": lambda: run_ours(task),
        "trl": lambda: run_trl(task, root / "trl", is_checkpointing=True, logging_steps=10),
        "trl_without_checkpointing": lambda: run_trl(
            task, root / "trl", is_checkpointing=False, logging_steps=10
        ),
    }
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for pair in range(num_pairs + 1):
        for name, run in runs.items():
            spent = run().seconds
            if pair:
                seconds[name].append(spent)
    rates = {name: task.num_tokens / statistics.median(values) for name, values in seconds.items()}
    ratios = {
        name: [other / ours for other, ours in zip(seconds[name], seconds["ours"], strict=True)]
        for name in GOALS
    }
    return {
        "tokens_per_cpu_s": {name: round(rate) for name, rate in rates.items()},
        "ratio_median": {name: round(statistics.median(ratios[name]), 2) for name in GOALS},
        "ratio_low_90": {name: round(lower_bound(ratios[name]), 2) for name in GOALS},
        "pairs": num_pairs,
        "tokens": task.num_tokens,
    }


def largest_loss_difference(task: Task, root: Path) -> float:
    """Over all steps, between our loop and TRL's defaults."""
    theirs = run_trl(task, root / "curve", is_checkpointing=True, logging_steps=1).losses
    ours = run_ours(task).losses
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


def main() -> int:
    """Measure, print, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if find_spec("trl") is None:
        print("not run: trl is not installed (make bench installs it)")
        return 0
    import torch

    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="kpod-bench-") as name:
        root = Path(name)
        task = make_task(root, num_steps=options.steps)
        found = {
            "loss_difference": largest_loss_difference(task, root),
            **measure(task, root, num_pairs=options.pairs),
        }
    is_met = found["loss_difference"] <= 1e-3 and all(
        found["ratio_low_90"][other] >= goal for other, goal in GOALS.items()
    )
    print(json.dumps({**found, "goals": GOALS, "is_met": is_met}, indent=2, sort_keys=True))
    if options.json is not None:
        options.json.write_text(json.dumps(found, sort_keys=True) + "\n", encoding="utf-8")
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
