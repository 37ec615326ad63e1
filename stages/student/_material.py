"""What a student trains on: its inputs read, joined by id and encoded, and how many steps that makes."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from kpod.runner import Context, Input, Record, StageError
from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.curricula import (
    CURRICULUM_ROWS,
    check_curriculum,
    first_targets,
    shelved_curriculum,
)
from kpod.stages._lm.encoding import Encoded, Example
from kpod.stages._lm.example_stream import Streams, stream_examples
from kpod.stages._lm.heap import old_objects_left
from kpod.stages._lm.joining import check_shelved
from kpod.stages._lm.loading import family, load_tokenizer, longest_trained
from kpod.stages._lm.prompts import Prompt
from kpod.stages.student._batches import StepPlan
from kpod.stages.student._steps import Spent, steps_of_epochs, steps_within, target_budget

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages.student._settings import Config
    from kpod.stages.student._student import Student

RecordT = TypeVar("RecordT", bound=Record)


class Material(NamedTuple):
    """All that a training needs but the model.

    Args:
        prompt: what the student reads and says.
        tokenizer: its own.
        encoded: the training sequences.
        plan: which of them every optimizer step reads.
        spent: where a budget says when training ends.
    """

    prompt: Prompt
    tokenizer: PreTrainedTokenizerBase
    encoded: Encoded
    plan: StepPlan
    spent: Spent | None


def gather(ctx: Context[Config], stage: Student, files: ModelFiles) -> Material:
    """Read and encode what the recipe wired.

    Raises:
        StageError: an id is missing or unknown, or weights or a curriculum do not fit the rationales or the prompt.
    """
    config = ctx.config
    prompt = config.prompt.resolve()
    tokenizer = load_tokenizer(files)
    with _workplace(ctx) as folder, old_objects_left():
        encoded = stream_examples(
            tokenizer,
            _streams(ctx, stage),
            prompt=prompt,
            max_length=_max_length(config, files),
            folder=folder,
            on_too_long=config.on_too_long,
            has_encoder=family(files.spec) == "seq2seq",
            told=lambda done, total: ctx.progress(done, total, unit="sequences encoded"),
        )
        plan, spent = _plan(ctx, stage, encoded, folder)
    return Material(prompt, tokenizer, encoded, plan, spent)


@contextmanager
def _workplace(ctx: Context[Config]) -> Iterator[Path]:
    """A folder on the disk of checkpoints, for files without a name; nothing of it stays, whatever happens.

    Processes that train together each have their own. A checkpoint's folder with nothing in it goes too: it would tell
    of an interrupted training.
    """
    checkpoint = ctx.checkpoint
    folder = checkpoint / f"encoding-{uuid.uuid4().hex}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):
            checkpoint.rmdir()


def _streams(ctx: Context[Config], stage: Student) -> Streams:
    """The records that the recipe wired, as often as they are asked for."""

    def reader(source: Input[RecordT]) -> Callable[[], Iterator[RecordT]]:
        return lambda: ctx.read(source)

    return Streams(
        questions=reader(stage.questions),
        rationales=reader(stage.rationales),
        weights=reader(stage.weights) if ctx.is_wired(stage.weights) else None,
        curriculum=reader(stage.curriculum) if ctx.is_wired(stage.curriculum) else None,
    )


def _plan(
    ctx: Context[Config], stage: Student, encoded: Encoded, folder: Path
) -> tuple[StepPlan, Spent | None]:
    config, num_examples = ctx.config, len(encoded.examples)
    epochs = config.epochs
    is_budget = ctx.is_wired(stage.budget)
    plan = StepPlan(
        num_examples=num_examples, batch_size=config.batch_size, seed=ctx.seed,
        num_steps=steps_of_epochs(
            num_examples, batch_size=config.batch_size, epochs=epochs or 1, max_steps=config.max_steps
        ),
    )  # fmt: skip
    if not is_budget:
        return plan, None
    spent = steps_within(_budget(ctx, stage, encoded.examples, folder), encoded.examples, plan)
    return plan.of(spent.num_steps), spent


def _budget(ctx: Context[Config], stage: Student, examples: Sequence[Example], folder: Path) -> int:
    """Target tokens of the curriculum that is the budget, under this student's tokenizer."""
    rows = shelved_curriculum(ctx.read(stage.budget), folder=folder)
    check_shelved({CURRICULUM_ROWS: rows}, ctx.read(stage.rationales))

    def shares() -> Iterator[tuple[tuple[int, ...], int]]:
        # Sequences stand in the order of their rationales, less those that were left out.
        kept = iter(examples)
        example = next(kept, None)
        for rationale in ctx.read(stage.rationales):
            row = rows.get(rationale.id)
            check_curriculum(row, rationale.text)
            if example is not None and example.example_id == rationale.id:
                completion = example.completion
                yield first_targets(row.cut, rationale.text, completion.spans), len(completion.ids)
                example = next(kept, None)
        assert example is None, "every sequence has its rationale"

    return target_budget(shares())


def _max_length(config: Config, files: ModelFiles) -> int:
    """The smaller of the setting and the model's context."""
    limits = [limit for limit in (config.max_length, longest_trained(files)) if limit is not None]
    if not limits:
        raise StageError(
            f"{files.weights / 'config.json'} names no max_position_embeddings\nset max_length in the recipe"
        )
    return int(min(limits))
