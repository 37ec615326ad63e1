"""Train a decoder-only student (Qwen, Llama, SmolLM, …) on verified rationales, or on answers alone.

Standard chain-of-thought distillation, Eq. 1 of KPOD: the mean negative log-likelihood of rationale, answer and end
token, given the question. What a student reads is decided by `prompt`, which goes into its model.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Gt,
    Input,
    InspectedExample,
    Le,
    Model,
    Output,
    Question,
    Rationale,
    SettingError,
    Stage,
    StageError,
    Volatile,
)
from kpod.runner.capability import auto_precision
from kpod.stages._lm.artifact import (
    ModelFiles,
    folder_digests,
    locate,
    read_json_object,
    read_spec,
    write_spec,
)
from kpod.stages._lm.encoding import Encoded, Example, OnTooLong, encode_examples
from kpod.stages._lm.prompts import Prompt, PromptConfig, encode_prompt
from kpod.stages.student._adapter import Lora, add_lora, write_adapter
from kpod.stages.student._batches import StepPlan, epoch_order
from kpod.stages.student._checkpoint import Tally
from kpod.stages.student._inspected import inspected
from kpod.stages.student._loop import Training, train
from kpod.stages.student._loss import take_apart
from kpod.stages.student._saving import write_model
from kpod.stages.student._schedule import Schedule, ScheduleName

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.runner.capability import Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How the student is trained."""

    prompt: Annotated[PromptConfig, Doc("What the student reads and says; cot or answer_only.")] = (
        field(default_factory=PromptConfig)
    )
    method: Annotated[
        Literal["lora", "full"], Doc("lora: an adapter on the frozen model; full: all weights.")
    ] = "lora"
    lora: Annotated[Lora, Doc("Size and place of the adapter; only with method lora.")] = field(
        default_factory=Lora
    )
    epochs: Annotated[int, Doc("Passes over all sequences."), Ge(1)] = 3
    max_steps: Annotated[
        int | None,
        Doc("Optimizer steps after which training ends, if the epochs last longer."),
        Ge(1),
    ] = None
    batch_size: Annotated[
        int, Doc("Sequences an optimizer step; the last step of an epoch takes the rest."), Ge(1)
    ] = 16
    learning_rate: Annotated[float, Doc("Highest learning rate of AdamW."), Gt(0)] = 2e-4
    schedule: Annotated[
        ScheduleName, Doc("The learning rate after the warm-up: constant, or falling to 0.")
    ] = "cosine"
    warmup_frac: Annotated[
        float, Doc("Share of all steps in which the learning rate rises from 0."), Ge(0), Le(1)
    ] = 0.03
    weight_decay: Annotated[float, Doc("AdamW's weight decay, on matrices only."), Ge(0)] = 0.0
    grad_clip: Annotated[
        float | None, Doc("Largest norm of a step's gradient; null: no limit."), Gt(0)
    ] = 1.0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the model computes in; auto: bf16 where this machine is faster with it."),
    ] = "auto"
    saved_precision: Annotated[
        Literal["fp32", "bf16"],
        Doc("What the weights of method full are stored in; an adapter is stored in fp32."),
    ] = "fp32"
    micro_batch_tokens: Annotated[
        int, Doc("Most tokens computed at once, padding included; bounds the memory."), Ge(1)
    ] = 4096
    max_length: Annotated[
        int | None, Doc("Most tokens a sequence may have; null: the model's context."), Ge(2)
    ] = None
    on_too_long: Annotated[
        OnTooLong, Doc("What to do with longer sequences: stop, or leave them out and say so.")
    ] = "error"
    gradient_checkpointing: Annotated[
        bool,
        Doc("Compute activations twice instead of keeping them: less memory, more time."),
        Volatile(),
    ] = False
    checkpoint_every_s: Annotated[
        float,
        Doc("Seconds between checkpoints, from which a killed run goes on."),
        Ge(0),
        Volatile(),
    ] = 60.0

    def __post_init__(self) -> None:
        if self.method == "full" and self.lora != Lora():
            raise SettingError(
                "lora", "method full has no adapter", hint="set method: lora, or drop it"
            )
        if self.method == "lora" and self.saved_precision != "fp32":
            raise SettingError(
                "saved_precision",
                "an adapter is stored in fp32",
                hint="set method: full, or drop it",
            )


class CausalLm(Stage[Config]):
    """A language model trained on the questions that have a verified rationale."""

    uses = "student.causal_lm"
    version = 1
    seeded = "recipe"
    libraries = ("torch", "transformers", "peft")
    model = Input(Model)
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    student = Output(Model)

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision auto, by the width of the model and what the machine is fast at."""
        if config.precision != "auto":
            return config
        width = read_spec(models["model"]).width
        is_bf16 = auto_precision(capability, width=width) == "bf16"
        return replace(config, precision="bf16" if is_bf16 else "fp32")

    def run(self, ctx: Context[Config]) -> None:
        """Encode, train from the checkpoint if there is one, and write the student."""
        files = _whole_model(ctx, self.model)
        prompt, _, encoded = self._encode(ctx, files)
        model, tally = _train(ctx, files, encoded.examples)
        with ctx.folder(self.student) as folder:
            _write(ctx, folder, model, files=files, prompt=prompt, steps=tally.step)
        _note(ctx, encoded, tally)

    def inspect(self, ctx: Context[Config], *, limit: int) -> Iterator[InspectedExample]:
        """The first sequences of the first epoch, encoded as `run` encodes them."""
        files = _whole_model(ctx, self.model)
        prompt, tokenizer, encoded = self._encode(ctx, files)
        questions = {question.id: question for question in ctx.read(self.questions)}
        # Evaluation knows the prompt only from model.json.
        sent = Prompt.from_json(prompt.to_json())
        for index in epoch_order(len(encoded.examples), seed=ctx.seed, epoch=1)[:limit]:
            example = encoded.examples[index]
            ids = encode_prompt(tokenizer, sent, questions[example.question_id])
            yield inspected(example, tokenizer, evaluation_ids=ids)

    def _encode(
        self, ctx: Context[Config], files: ModelFiles
    ) -> tuple[Prompt, PreTrainedTokenizerBase, Encoded]:
        from kpod.stages._lm.loading import load_tokenizer

        config = ctx.config
        prompt = config.prompt.resolve()
        tokenizer = load_tokenizer(files)
        encoded = encode_examples(
            tokenizer,
            questions=ctx.read(self.questions),
            rationales=list(ctx.read(self.rationales)),
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
    from kpod.stages._lm.loading import load_causal_lm, pick_device, set_threads

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
    ctx: Context[Config], folder: Path, model: Any, *, files: ModelFiles, prompt: Prompt, steps: int
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
        trained_by={
            "uses": CausalLm.uses,
            "method": config.method,
            "precision": config.precision,
            "steps": steps,
        },
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
        f"{tally.step:,} steps over {len(encoded.examples):,} sequences, loss {tally.losses[-1]:.3f},"
        f" {facts['tokens_per_s']:,.0f} tokens/s"
    )
    for key, value in facts.items():
        ctx.note(key, value)
