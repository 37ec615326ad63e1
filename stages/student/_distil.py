"""What student.causal_lm does when it runs: encode, train, write the student, tell what it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner import Context, Input, InspectedExample, Model, StageError
from kpod.stages._lm.artifact import (
    ModelFiles,
    folder_digests,
    locate,
    read_json_object,
    write_spec,
)
from kpod.stages._lm.encoding import Encoded, Example, encode_examples
from kpod.stages._lm.loading import load_causal_lm, load_tokenizer, pick_device, set_threads
from kpod.stages._lm.prompts import Prompt, encode_prompt
from kpod.stages.student._adapter import add_lora, write_adapter
from kpod.stages.student._batches import StepPlan, epoch_order
from kpod.stages.student._checkpoint import Tally
from kpod.stages.student._inspected import inspected
from kpod.stages.student._loop import Training, train
from kpod.stages.student._loss import take_apart
from kpod.stages.student._saving import write_model
from kpod.stages.student._schedule import Schedule

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.stages.student.causal_lm import CausalLm, Config


def distil(ctx: Context[Config], stage: CausalLm) -> None:
    """Encode, train from the checkpoint if there is one, and write the student."""
    files = _whole_model(ctx, stage.model)
    prompt, _, encoded = _encode(ctx, stage, files)
    model, tally = _train(ctx, files, encoded.examples)
    with ctx.folder(stage.student) as folder:
        _write(
            ctx,
            folder,
            model,
            files=files,
            prompt=prompt,
            trained_by={"uses": stage.uses, "steps": tally.step},
        )
    _note(ctx, encoded, tally)


def inspect_examples(
    ctx: Context[Config], stage: CausalLm, *, limit: int
) -> Iterator[InspectedExample]:
    """The first sequences of the first epoch, encoded as `distil` encodes them."""
    files = _whole_model(ctx, stage.model)
    prompt, tokenizer, encoded = _encode(ctx, stage, files)
    questions = {question.id: question for question in ctx.read(stage.questions)}
    # Evaluation knows the prompt only from model.json.
    sent = Prompt.from_json(prompt.to_json())
    for index in epoch_order(len(encoded.examples), seed=ctx.seed, epoch=1)[:limit]:
        example = encoded.examples[index]
        ids = encode_prompt(tokenizer, sent, questions[example.question_id])
        yield inspected(example, tokenizer, evaluation_ids=ids)


def _encode(
    ctx: Context[Config], stage: CausalLm, files: ModelFiles
) -> tuple[Prompt, PreTrainedTokenizerBase, Encoded]:
    config = ctx.config
    prompt = config.prompt.resolve()
    tokenizer = load_tokenizer(files)
    encoded = encode_examples(
        tokenizer,
        questions=ctx.read(stage.questions),
        rationales=list(ctx.read(stage.rationales)),
        prompt=prompt,
        max_length=_max_length(config, files),
        on_too_long=config.on_too_long,
    )
    return prompt, tokenizer, encoded


def _whole_model(ctx: Context[Config], source: Input[Model]) -> ModelFiles:
    """The model to train.

    Raises:
        StageError: it is an adapter.
    """
    files = locate(ctx, source)
    if files.adapter is not None:
        raise StageError(
            "the model to train is itself an adapter, and an adapter of an adapter is not supported\n"
            "allowed: a whole model, from model.pretrained, model.from_config or student.causal_lm with method: full"
        )
    return files


def _max_length(config: Config, files: ModelFiles) -> int:
    """The smaller of the setting and the model's context."""
    context = read_json_object(files.weights / "config.json").get("max_position_embeddings")
    limits = [limit for limit in (config.max_length, context) if limit is not None]
    if not limits:
        raise StageError(
            f"{files.weights / 'config.json'} names no max_position_embeddings\nset max_length in the recipe"
        )
    return int(min(limits))


def _train(
    ctx: Context[Config], files: ModelFiles, examples: tuple[Example, ...]
) -> tuple[Any, Tally]:
    """The trained model (peft's, where there is an adapter) and what was done."""
    config = ctx.config
    assert config.precision != "auto", "the runner resolves auto"
    set_threads(ctx.placement)
    # All weights train in fp32 and compute in bf16; frozen ones are held in what they compute in.
    held = config.precision if config.method == "lora" else "fp32"
    device = str(pick_device(ctx.placement))
    model: Any = load_causal_lm(files, precision=held, device=device)
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable()
    if config.method == "lora":
        model = add_lora(model, config.lora, seed=ctx.seed)
    student = take_apart(model, precision=config.precision, probe_ids=examples[0].prompt_ids[:8])
    plan = StepPlan(
        num_examples=len(examples), batch_size=config.batch_size, epochs=config.epochs,
        max_steps=config.max_steps, seed=ctx.seed,
    )  # fmt: skip
    schedule = Schedule(
        name=config.schedule, peak=config.learning_rate, warmup_frac=config.warmup_frac,
        num_steps=plan.num_steps,
    )  # fmt: skip
    training = Training(
        plan=plan, schedule=schedule, weight_decay=config.weight_decay, grad_clip=config.grad_clip,
        micro_batch_tokens=config.micro_batch_tokens, checkpoint_every_s=config.checkpoint_every_s,
    )  # fmt: skip
    return model, train(ctx, student, examples, training)


def _write(
    ctx: Context[Config],
    folder: Path,
    model: Any,
    *,
    files: ModelFiles,
    prompt: Prompt,
    trained_by: dict[str, Any],
) -> None:
    """The student's files and its model.json."""
    config = ctx.config
    is_adapter = config.method == "lora"
    if is_adapter:
        write_adapter(model, folder)
        ctx.refer(files.digest)
    else:
        write_model(model, files.weights, folder, precision=config.saved_precision)
    spec = replace(
        files.spec,
        precision="fp32" if is_adapter else config.saved_precision,
        files=folder_digests(folder),
        is_pointer=False,
        base=files.digest if is_adapter else None,
        prompt=prompt.to_json(),
        trained_by={**trained_by, "method": config.method, "precision": config.precision},
    )
    write_spec(folder, spec)


def _note(ctx: Context[Config], encoded: Encoded, tally: Tally) -> None:
    """Facts for the report: loss by epoch, tokens, time, and what was left out."""
    facts: dict[str, object] = {
        "examples": len(encoded.examples),
        "dropped_too_long": len(encoded.dropped),
        "questions_without_rationale": len(encoded.without_rationale),
        "steps": tally.step,
        "losses": tally.losses,
        "target_tokens": sum(tally.epoch_targets),
        "processed_tokens": tally.processed_tokens,
        "padded_tokens": tally.padded_tokens,
        "seconds": tally.seconds,
        "tokens_per_s": tally.processed_tokens / max(tally.seconds, 1e-9),
    }
    facts["summary"] = (
        f"{tally.step:,} steps, loss {tally.losses[-1]:.3f}, {facts['tokens_per_s']:,.0f} tokens/s"
    )
    for key, value in facts.items():
        ctx.note(key, value)
