"""One training of a task by each of those that are compared, and what it took.

All get the same token ids, targets, batches and order, the same start, AdamW, constant learning rate and precision.
TRL's own default precision is bf16, which is slower still on a CPU without bf16 hardware: it is given the task's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks.training_models import Task


class Run(NamedTuple):
    """One training: seconds on the clock it was given, and the loss of every step where it was asked for."""

    seconds: float
    losses: list[float]


Clock = Callable[[], float]


def run_ours(
    task: Task, *, clock: Clock = time.process_time, micro_batch_tokens: int = 4096
) -> Run:
    """Our loop; checkpoints off as in the others."""
    from kpod.stages.student._batches import StepPlan
    from kpod.stages.student._loop import train
    from kpod.stages.student._loss import take_apart
    from kpod.stages.student._schedule import Schedule
    from kpod.stages.student._training import Training
    from tests.stages.fakes import FakeContext

    student = take_apart(
        task.model(), precision=task.precision, probe_ids=task.examples[0].prompt_ids[:8]
    )
    plan = StepPlan(
        num_examples=len(task.examples), batch_size=task.batch_size, seed=0,
        num_steps=-(-len(task.examples) // task.batch_size),
    )  # fmt: skip
    schedule = Schedule(
        name="constant", peak=task.learning_rate, warmup_frac=0.0, num_steps=plan.num_steps
    )
    training = Training(
        plan=plan, schedule=schedule, normalise="targets", weight_decay=0.0, grad_clip=1.0, micro_batch_tokens=micro_batch_tokens,
        checkpoint_every_s=1e9,
    )  # fmt: skip
    ctx = FakeContext(config=None)
    start = clock()
    train(ctx, student, task.examples, training)
    return Run(clock() - start, [facts["loss"] for _, _, _, facts in ctx.steps])


def run_trl(
    task: Task,
    folder: Path,
    *,
    is_checkpointing: bool,
    logging_steps: int = 1000,
    clock: Clock = time.process_time,
    use_cpu: bool = True,
) -> Run:
    """TRL's SFTTrainer, with its default activation checkpointing or without."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = [
        {
            "input_ids": [*example.prompt_ids, *example.completion.ids],
            "completion_mask": [0] * len(example.prompt_ids) + [1] * len(example.completion.ids),
        }
        for example in task.ordered()
    ]
    settings = SFTConfig(
        **_settings(task, folder, logging_steps, use_cpu=use_cpu), gradient_checkpointing=is_checkpointing,
        completion_only_loss=True, max_length=None,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=task.model(), args=settings, train_dataset=Dataset.from_list(rows), processing_class=task.tokenizer
    )  # fmt: skip
    return _timed(trainer, clock)


def run_trainer(
    task: Task, folder: Path, *, logging_steps: int = 1000, clock: Clock = time.process_time
) -> Run:
    """transformers' Trainer with its defaults: logits of every position, no checkpointing."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows = [
        {
            "input_ids": [*example.prompt_ids, *example.completion.ids],
            "attention_mask": [1] * example.num_tokens,
            "labels": [-100] * len(example.prompt_ids) + list(example.completion.ids),
        }
        for example in task.ordered()
    ]
    trainer = Trainer(
        model=task.model(), args=TrainingArguments(**_settings(task, folder, logging_steps)),
        train_dataset=Dataset.from_list(rows), data_collator=DataCollatorForSeq2Seq(task.tokenizer),
    )  # fmt: skip
    return _timed(trainer, clock)


def run_seq2seq_trainer(
    task: Task, folder: Path, *, logging_steps: int = 1000, clock: Clock = time.process_time
) -> Run:
    """transformers' Seq2SeqTrainer with its defaults."""
    from datasets import Dataset
    from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

    end = 1  # what our encoder's input ends with
    rows = [
        {
            "input_ids": [*example.prompt_ids, end],
            "attention_mask": [1] * (len(example.prompt_ids) + 1),
            "labels": list(example.completion.ids),
        }
        for example in task.ordered()
    ]
    model = task.model()
    trainer = Seq2SeqTrainer(
        model=model, args=Seq2SeqTrainingArguments(**_settings(task, folder, logging_steps)),
        train_dataset=Dataset.from_list(rows),
        data_collator=DataCollatorForSeq2Seq(task.tokenizer, model=model),
    )  # fmt: skip
    return _timed(trainer, clock)


def _settings(
    task: Task, folder: Path, logging_steps: int, *, use_cpu: bool = True
) -> dict[str, Any]:
    """What all trainers are told."""
    return {
        "output_dir": str(folder), "per_device_train_batch_size": task.batch_size, "num_train_epochs": 1,
        "learning_rate": task.learning_rate, "lr_scheduler_type": "constant", "warmup_steps": 0, "weight_decay": 0.0,
        "max_grad_norm": 1.0, "bf16": task.precision == "bf16", "use_cpu": use_cpu, "save_strategy": "no",
        "report_to": "none", "disable_tqdm": True, "logging_steps": logging_steps, "train_sampling_strategy": "sequential",
    }  # fmt: skip


def _timed(trainer: Any, clock: Clock) -> Run:
    trainer.log = lambda logs, *_: trainer.state.log_history.append(dict(logs))
    start = clock()
    trainer.train()
    seconds = clock() - start
    return Run(seconds, [row["loss"] for row in trainer.state.log_history if "loss" in row])


def runners(kind: str, task: Task, folder: Path, clock: Clock) -> Mapping[str, Callable[[], Run]]:
    """Ours and whom it is compared with, by name, for a part of the benchmark."""
    ours = {"ours": lambda: run_ours(task, clock=clock)}
    if kind == "t5":
        return {
            **ours,
            "seq2seq_trainer": lambda: run_seq2seq_trainer(task, folder, clock=clock),
        }
    causal = {
        **ours,
        "trl": lambda: run_trl(task, folder, is_checkpointing=True, clock=clock),
        "trl_without_checkpointing": lambda: run_trl(
            task, folder, is_checkpointing=False, clock=clock
        ),
    }
    if kind == "half_b":
        return {**causal, "trainer": lambda: run_trainer(task, folder, clock=clock)}
    return causal
