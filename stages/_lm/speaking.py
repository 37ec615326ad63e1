"""How a stage lets a model write: load it only if something is left to write, tell the run how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.decoding import Decoding
from kpod.stages._lm.family import family
from kpod.stages._lm.generation import Progress, Request, generate_texts
from kpod.stages._lm.loading import (
    Limits,
    LoadPrecision,
    load_lm,
    pick_device,
    read_limits,
    set_threads,
)
from kpod.stages._lm.merging import LEAST_KEPT_FRAC
from kpod.stages._lm.packed_weights import pack_weights
from kpod.stages._lm.quantised import Quantisation, check_quantisable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from kpod.runner import Context
    from kpod.runner.texts import GeneratedText

_TELL_EVERY_S = 1.0
_BESIDE = f"stays beside the weights: rounded to bf16 with them, less than {LEAST_KEPT_FRAC:.0%} of what it adds would be left"


def write_texts(
    ctx: Context[Any],
    files: ModelFiles,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[Request],
    decoding: Decoding,
    *,
    precision: LoadPrecision,
    batch_tokens: int,
    end_ids: frozenset[int],
    quantisation: Quantisation = "none",
) -> list[GeneratedText]:
    """The texts of a model, in the order of the requests; stored ones are not written again.

    Args:
        ctx: gives the record store and the placement, hears of progress.
        files: the model's.
        tokenizer: the model's.
        requests: what to write.
        decoding: how.
        precision: what the model computes in.
        batch_tokens: tokens of prompts and texts that are held at once.
        end_ids: tokens that end a text, beside those that the model itself names.
        quantisation: how the model's weights are held.

    Notes "saved": how many texts were found and not written, and their tokens; "adapter": where it could not be merged.

    Raises:
        Interrupted: the run was asked to stop; texts that had ended are stored.
        StageError: as `generate_texts`.
    """
    check_quantisable(files, quantisation)
    known = read_limits(files, tokenizer)
    kind = family(files.spec)
    is_rounded = files.adapter is not None and precision == "bf16" and quantisation == "none"

    def load() -> Any:
        set_threads(ctx.placement)
        model = load_lm(
            files,
            precision=precision,
            device=str(pick_device(ctx.placement)),
            quantisation=quantisation,
        )
        if is_rounded and hasattr(model, "peft_config"):
            ctx.note("adapter", _BESIDE)
        pack_weights(model)
        return model

    facts = {"model": files.digest, "precision": precision}
    if is_rounded:  # texts of before there was a bound are not found again
        facts["adapter"] = f"merged where {LEAST_KEPT_FRAC} is kept"
    found: list[GeneratedText] = []
    texts = generate_texts(
        load,
        tokenizer,
        requests,
        decoding,
        limits=Limits(known.end_ids | end_ids, known.context_tokens),
        batch_tokens=batch_tokens,
        store=ctx.records,
        model_facts=facts if quantisation == "none" else {**facts, "quantisation": quantisation},
        on_progress=_teller(ctx),
        family=kind,
        but_refused=ctx.retry_refused,
        on_found=found.extend,
    )
    num_tokens = sum(text.prompt_tokens + text.completion_tokens for text in found)
    ctx.note("saved", {"texts": len(found), "tokens": num_tokens})
    return texts


def _teller(ctx: Context[Any]) -> Callable[[Progress], None]:
    """Tells the run how far the writing is: at the ends, when asked to stop, else once a second."""
    started_at = told_at = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told_at
        now = time.monotonic()
        is_end = progress.done == progress.total or progress.new_tokens == 0
        if not (is_end or ctx.should_stop or now - told_at >= _TELL_EVERY_S):
            return
        told_at = now
        rate = progress.new_tokens / max(now - started_at, 1e-9)
        ctx.progress(progress.done, progress.total, unit="texts", tokens_per_s=round(rate, 1))

    return tell
