"""What teacher.openai would cost, and what it cost: the forecast before a run, the notes after it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kpod.runner import Forecast
from kpod.stages.teacher._course import take_stock

if TYPE_CHECKING:
    from kpod.runner import Context, Price
    from kpod.stages.teacher._course import Course, Stock, Written
    from kpod.stages.teacher._tally import Tally


def forecast(
    ctx: Context[Any], course: Course, *, endpoints: Sequence[str], price: Price | None
) -> Forecast:
    """What a run would ask for now: by the mean of what this endpoint answered so far, else at most.

    Args:
        ctx: gives store and ledger.
        course: what would be asked.
        endpoints: names under which the ledger may know it, the first that it knows is taken.
        price: of a token, or None.
    """
    stock = take_stock(ctx, course)
    means = (ctx.ledger.mean_usage(endpoint=name, model=course.form.model) for name in endpoints)
    mean = next((found for found in means if found is not None), None)
    if mean is None:
        prompt, completion = _most(course, stock)
        basis = "upper bound: two bytes a prompt token, every text of max_new_tokens"
    else:
        prompt = math.ceil(mean[0] * stock.num_missing)
        completion = math.ceil(mean[1] * stock.num_missing)
        basis = f"mean of {mean[2]:,} texts of this endpoint and model"
    return Forecast(
        num_texts=course.num_texts,
        num_stored=course.num_texts - stock.num_missing,
        prompt_tokens=prompt,
        completion_tokens=completion,
        usd=None if price is None else price.usd(prompt, completion),
        basis=basis,
    )


def _most(course: Course, stock: Stock) -> tuple[int, int]:
    """Prompt and completion tokens that the missing texts may cost; a prompt counts once a request."""
    prompt = completion = 0
    for job in stock.jobs:
        most = course.form.most_tokens(course.messages(job.index), num_texts=len(job.keys))
        requests = -(-len(job.keys) // (course.per_request or len(job.keys)))
        prompt += most[0] * requests
        completion += most[1]
    return prompt, completion


def note_costs(
    ctx: Context[Any],
    stock: Stock,
    tally: Tally,
    unchecked: Mapping[str, str],
    *,
    price: Price | None,
) -> None:
    """Leave what this execution asked and paid, and what the store saved; what was asked before an interruption is in the ledger."""
    ctx.note("requests", tally.num_requests)
    ctx.note("retries", dict(sorted(tally.failures.items())))
    ctx.note("usd", None if price is None else round(tally.usd, 9))
    ctx.note(
        "saved",
        {
            "texts": stock.num_saved,
            "prompt_tokens": stock.prompt_tokens,
            "completion_tokens": stock.completion_tokens,
            "usd": None
            if price is None
            else round(price.usd(stock.prompt_tokens, stock.completion_tokens), 9),
        },
    )
    ctx.note("served_models", dict(sorted(tally.served.items())))
    for name, share in (("latency_median_s", 0.5), ("latency_90_s", 0.9)):
        latency_s = tally.latency_s(share)
        ctx.note(name, None if latency_s is None else round(latency_s, 3))
    for name, value in (
        ("unchecked_urls", dict(unchecked)),
        ("asked_by_other_runs", tally.num_shared),
        ("answers_with_too_few_choices", tally.num_short),
        ("usage_missing", tally.num_uncounted),
    ):
        if value:
            ctx.note(name, value)


def note_texts(
    ctx: Context[Any], written: Written, *, num_questions: int, most_tokens: int
) -> None:
    """Leave what the texts came to, and the line that a person sees."""
    for name in ("prompt_tokens", "completion_tokens", "truncated", "refused"):
        ctx.note(name, getattr(written, name))
    said = [f"{written.rationales:,} rationales for {num_questions:,} questions"]
    if written.truncated:
        said.append(f"{written.truncated:,} cut at {most_tokens:,} tokens")
    if written.refused:
        said.append(f"{written.refused:,} refused")
    ctx.note("summary", f"{', '.join(said)}; {written.completion_tokens:,} tokens written")
