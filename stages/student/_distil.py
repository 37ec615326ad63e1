"""What a student stage does when it runs: encode, train, write the student, tell what it took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kpod.runner import Context, InspectedExample, SettingError, StageError
from kpod.stages._lm.artifact import ModelFiles, folder_digests, locate, write_spec
from kpod.stages._lm.loading import family, pick_device, set_threads
from kpod.stages._lm.prompts import Prompt, encode_prompt
from kpod.stages.student._adapter import write_adapter
from kpod.stages.student._batches import epoch_order
from kpod.stages.student._build import build
from kpod.stages.student._inspected import inspected
from kpod.stages.student._judge import watch_of
from kpod.stages.student._loop import train
from kpod.stages.student._material import Material, gather
from kpod.stages.student._monitor import monitoring
from kpod.stages.student._processes import Shards, ZeroTeam, team_of
from kpod.stages.student._saving import write_model
from kpod.stages.student._schedule import Schedule
from kpod.stages.student._sharded import ShardedParts, load_sharded, whole_model
from kpod.stages.student._sharding import check_shardable
from kpod.stages.student._shortage import (
    forget_peak_memory,
    peak_memory_gb,
    plan_memory,
    told_shortage,
)
from kpod.stages.student._tally import Tally
from kpod.stages.student._training import Training
from kpod.stages.student._wired import check_wired
from kpod.stages.student._zero_claims import check_zero

if TYPE_CHECKING:
    from kpod.stages._lm.parts import Parts
    from kpod.stages.student._settings import Config
    from kpod.stages.student._student import Student
    from kpod.stages.student._team import Team
    from kpod.stages.student._watch import Watch


def distil(ctx: Context[Config], stage: Student) -> None:
    """Encode, train from the checkpoint if there is one, and write the student."""
    stage.check_installed(ctx.config)
    _check_wired(ctx, stage)
    files = _model_to_train(ctx, stage)
    material = gather(ctx, stage, files)
    watch = watch_of(ctx, stage, files, prompt=material.prompt, tokenizer=material.tokenizer)
    team = team_of(ctx.placement)
    if isinstance(team, Shards):
        check_shardable(ctx.config, by="FSDP")
    if isinstance(team, ZeroTeam):
        check_zero(team.settings, ctx.config, is_judged=watch is not None)
    model, tally = _train(ctx, files, material, watch, team)
    if not team.is_first:
        return
    with ctx.folder(stage.student) as folder:
        _write(
            ctx,
            folder,
            model,
            files=files,
            prompt=material.prompt,
            trained_by={"uses": stage.uses, "steps": tally.kept_step},
        )
    _note(ctx, material, tally, watch)


def inspect_examples(
    ctx: Context[Config], stage: Student, *, limit: int, epoch: int
) -> Iterator[InspectedExample]:
    """The first sequences of an epoch (from 1), encoded as `distil` encodes them."""
    _check_wired(ctx, stage)
    files = _model_to_train(ctx, stage)
    material = gather(ctx, stage, files)
    examples, tokenizer = material.encoded.examples, material.tokenizer
    questions = {question.id: question for question in ctx.read(stage.questions)}
    # Evaluation knows the prompt only from model.json.
    sent = Prompt.from_json(material.prompt.to_json())
    for index in epoch_order(len(examples), seed=ctx.seed, epoch=epoch)[:limit]:
        ids = encode_prompt(tokenizer, sent, questions[examples[index].question_id])
        yield inspected(examples[index], tokenizer, epoch=epoch, evaluation_ids=ids)


def _check_wired(ctx: Context[Config], stage: Student) -> None:
    """As the runner has checked it: for whoever calls the stage without it."""
    wired = {name for name, source in stage.inputs().items() if ctx.is_wired(source)}
    try:
        check_wired(ctx.config, wired)
    except SettingError as error:
        raise StageError(str(error)) from None


def _model_to_train(ctx: Context[Config], stage: Student) -> ModelFiles:
    """The model to train; an adapter beside its base where it is one.

    Raises:
        StageError: it is of the other family.
    """
    files = locate(ctx, stage.model)
    own = family(files.spec)
    if not stage.uses.startswith(f"student.{own}"):
        raise StageError(
            f"{stage.uses} cannot train a {files.spec.architecture}\nuse student.{own}_lm"
        )
    return files


def _train(
    ctx: Context[Config], files: ModelFiles, material: Material, watch: Watch | None, team: Team
) -> tuple[Any, Tally]:
    """The trained model (peft's, where there is an adapter) and what was done."""
    config = ctx.config
    assert config.micro_batch_tokens != "auto", "the runner resolves auto"
    set_threads(ctx.placement)
    examples = material.encoded.examples
    num_shards = team.size if isinstance(team, Shards | ZeroTeam) else 1
    zero_stage = team.settings.stage if isinstance(team, ZeroTeam) else 0
    longest = max(example.num_tokens for example in examples)
    memory = plan_memory(ctx, files, config, longest, num_shards=num_shards, zero_stage=zero_stage)
    schedule = Schedule(
        name=config.schedule, peak=config.learning_rate, warmup_frac=config.warmup_frac,
        num_steps=material.plan.num_steps,
    )  # fmt: skip
    training = Training(
        plan=material.plan, schedule=schedule, normalise=config.normalise,
        weight_decay=config.weight_decay, grad_clip=config.grad_clip,
        micro_batch_tokens=config.micro_batch_tokens, checkpoint_every_s=config.checkpoint_every_s,
        optimizer=config.optimizer,
    )  # fmt: skip
    forget_peak_memory(pick_device(ctx.placement))
    with told_shortage(memory):
        probe_ids = examples[0].prompt_ids[:8]
        student = _student(
            ctx, files, team, probe_ids=probe_ids, is_checkpointing=memory.is_checkpointing
        )
        with monitoring(ctx, student, training, team=team) as monitor:
            tally = train(ctx, student, examples, training, team=team, watch=watch, monitor=monitor)
    ctx.note("peak_memory_gb", round(peak_memory_gb(student.device), 3))
    model = whole_model(student, team) if isinstance(student, ShardedParts) else student.model
    team.wait()  # nobody still reads the checkpoint when the first process publishes, which removes it
    return model, tally


def _student(
    ctx: Context[Config],
    files: ModelFiles,
    team: Team,
    *,
    probe_ids: tuple[int, ...],
    is_checkpointing: bool,
) -> Parts:
    """The student, ready to train; in pieces where the processes were told to spread it."""
    if isinstance(team, ZeroTeam):
        ctx.note("spread_by_deepspeed", {"stage": team.settings.stage, "processes": team.size})
    if not isinstance(team, Shards):
        return build(ctx, files, probe_ids=probe_ids, is_checkpointing=is_checkpointing)
    is_checkpointing = is_checkpointing or team.sharding.is_checkpointing
    ctx.note("weights_spread_over_processes", team.size)

    def load() -> Parts:
        return build(ctx, files, probe_ids=probe_ids, is_checkpointing=is_checkpointing)

    return load_sharded(team, pick_device(ctx.placement), load, probe_ids=probe_ids)


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
    base = files.spec.base or files.digest
    if is_adapter:
        write_adapter(model, folder)
        ctx.refer(base)
    else:
        write_model(model, files.weights, folder, precision=config.saved_precision)
    spec = replace(
        files.spec,
        precision="fp32" if is_adapter else config.saved_precision,
        files=folder_digests(folder),
        is_pointer=False,
        base=base if is_adapter else None,
        prompt=prompt.to_json(),
        trained_by={**trained_by, "method": config.method, **_held(config)},
    )
    write_spec(folder, spec)


def _held(config: Config) -> dict[str, str]:
    """How the weights were held, and what they were computed in where these are two."""
    precision: dict[str, str] = {"precision": config.precision}
    return precision if config.compute == "auto" else {**precision, "compute": config.compute}


def _note(ctx: Context[Config], material: Material, tally: Tally, watch: Watch | None) -> None:
    """Facts for the report: loss by epoch, tokens, time, and what was left out."""
    encoded = material.encoded
    facts: dict[str, object] = {
        "examples": len(encoded.examples),
        "dropped_too_long": len(encoded.dropped),
        "questions_without_rationale": len(encoded.without_rationale),
        "steps": tally.step,
        "losses": tally.losses,
        "target_tokens": sum(tally.epoch_targets),
        "target_tokens_by_epoch": tally.epoch_targets,
        "processed_tokens": tally.processed_tokens,
        "padded_tokens": tally.padded_tokens,
        "seconds": tally.seconds,
        "tokens_per_s": tally.processed_tokens / max(tally.seconds, 1e-9),
    }
    if material.spent is not None:
        facts["target_token_budget"] = material.spent.budget
    facts["summary"] = (
        f"{tally.step:,} steps, loss {tally.losses[-1]:.3f}, {facts['tokens_per_s']:,.0f} tokens/s"
    )
    unknown = encoded.unknown
    if unknown.num_unknown:
        facts["unknown_tokens"] = unknown.num_unknown
        facts["summary"] = (
            f"{facts['summary']}; {unknown.num_unknown:,} of {unknown.num_tokens:,} tokens ({unknown.share:.1%})"
            " stand for text that the tokenizer does not know: kpod inspect-batch shows it"
        )
    if tally.refused:
        facts["checkpoint_refused"] = tally.refused
        facts["summary"] = f"{facts['summary']}; from the start, because {tally.refused}"
    if watch is not None:
        facts["validation"] = watch.told(tally, material.plan)
        facts["summary"] = f"{facts['summary']}; {watch.summary(tally, material.plan)}"
    for key, value in facts.items():
        ctx.note(key, value)
