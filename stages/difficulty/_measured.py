"""What difficulty.weighted_nll does when it runs: encodes, asks the model, weighs each step, tells what it took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kpod.runner import Context, Difficulty, Rationale, StageError
from kpod.stages._lm.artifact import ModelFiles, locate
from kpod.stages._lm.likelihood import token_nll
from kpod.stages._lm.loading import (
    family,
    load_lm,
    load_tokenizer,
    pick_device,
    read_limits,
    set_threads,
)
from kpod.stages._lm.parts import Parts, take_apart
from kpod.stages._lm.steps import Span
from kpod.stages._lm.token_weights import weights_by_rationale
from kpod.stages.difficulty._facts import note_steps, total_difficulty
from kpod.stages.difficulty._scored import Scored, check_lengths, encode_scored
from kpod.stages.difficulty._step_nats import step_nats, tokens_by_step
from kpod.stages.difficulty._steps import steps_by_rationale

if TYPE_CHECKING:
    from kpod.stages.difficulty.weighted_nll import Config, WeightedNll


def measure(ctx: Context[Config], stage: WeightedNll) -> None:
    """Read the inputs, write the difficulty of every rationale in their order, note the facts.

    Raises:
        StageError: a rationale has no step, no token, no question, no weights, too many tokens, or nats that are no number.
    """
    config = ctx.config
    rationales = list(ctx.read(stage.rationales))
    spans = steps_by_rationale(rationales, rule=config.steps)
    has_weights = ctx.is_wired(stage.weights)
    weights = weights_by_rationale(ctx.read(stage.weights), rationales) if has_weights else None
    files = locate(ctx, stage.model)
    tokenizer = load_tokenizer(files)
    scored = encode_scored(
        tokenizer, questions=ctx.read(stage.questions), rationales=rationales,
        prompt=config.prompt.resolve(), weights=weights,
    )  # fmt: skip
    check_lengths(
        scored, limits=(config.max_length, read_limits(files, tokenizer).context_tokens),
        has_encoder=family(files.spec) == "seq2seq",
    )  # fmt: skip
    parts = _load(ctx, files, scored)
    start_s = time.monotonic()
    nats = token_nll(
        parts, [row.passage for row in scored], batch_tokens=config.batch_tokens,
        progress=lambda done, total: ctx.progress(done, total, unit="tokens"),
    )  # fmt: skip
    seconds = time.monotonic() - start_s
    rows = [
        _difficulty(rationale, spans[rationale.id], row, values)
        for rationale, row, values in zip(rationales, scored, nats, strict=True)
    ]
    with ctx.write(stage.difficulty) as out:
        for row in rows:
            out.add(row)
    note_steps(ctx, rationales, rows)
    _note_effort(ctx, rows, scored, spans, seconds)


def _load(ctx: Context[Config], files: ModelFiles, scored: list[Scored]) -> Parts:
    precision = ctx.config.precision
    assert precision != "auto", "the runner resolves precision before a stage runs"
    set_threads(ctx.placement)
    device = str(pick_device(ctx.placement))
    model: Any = load_lm(files, precision=precision, device=device)
    return take_apart(model, precision=precision, probe_ids=scored[0].passage.context_ids[:8])


def _difficulty(
    rationale: Rationale, spans: list[Span], scored: Scored, values: tuple[float, ...]
) -> Difficulty:
    """The steps of one rationale with their nats."""
    nats = step_nats(scored, values, rationale.text, spans)
    if not all(0.0 <= value < float("inf") for value in nats):
        raise StageError(
            f"rationale {rationale.id}: a step's difficulty is not a number; the model gives NaN or infinity for one"
            " of its tokens\nallowed: finite log-likelihoods; set precision: fp32, or check the model's weights"
        )
    steps = tuple((start, end, value) for (start, end), value in zip(spans, nats, strict=True))
    return Difficulty(rationale_id=rationale.id, steps=steps)


def _note_effort(
    ctx: Context[Config],
    rows: list[Difficulty],
    scored: list[Scored],
    spans: dict[str, list[Span]],
    seconds: float,
) -> None:
    """Steps that no token begins in, tokens and time; and the line that a person sees."""
    num_tokens = sum(row.passage.num_tokens for row in scored)
    num_steps = sum(len(row.steps) for row in rows)
    without = sum(
        not tokens
        for row in scored
        for tokens in tokens_by_step(row, row.text, spans[row.rationale_id])
    )
    mean = total_difficulty(rows) / num_steps
    ctx.note("steps_without_token", without)
    ctx.note("target_tokens", sum(len(row.passage.target_ids) for row in scored))
    ctx.note("processed_tokens", num_tokens)
    ctx.note("seconds", seconds)
    ctx.note("tokens_per_s", num_tokens / max(seconds, 1e-9))
    ctx.note(
        "summary",
        f"{num_steps:,} steps in {len(rows):,} rationales, {mean:.3f} nats a step,"
        f" {num_tokens / max(seconds, 1e-9):,.0f} tokens/s",
    )
