"""Why a pass over an endpoint ends before all texts are there, in words for the person who can mend it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from kpod.runner import StageError

if TYPE_CHECKING:
    from kpod.stages.teacher._key import Key
    from kpod.stages.teacher._replies import Failure

_NAMED = 10  # questions, or models, named in an error


class Reached(NamedTuple):
    """How far the pass came: texts stored, of all."""

    done: int
    total: int

    def __str__(self) -> str:
        return f"{self.done:,} of {self.total:,} texts are stored; the same command continues there"


def refused_us(failure: Failure, *, url: str, key: Key, model: str, reached: Reached) -> StageError:
    """The endpoint refuses whatever we ask."""
    said = failure.says or "it gives no reason"
    head = f"{url} refuses our requests ({failure.reason}): {said}"
    if failure.reason in {"401", "403"}:
        sent = f"the key in {key.env}" if key.value else "no key"
        advice = f"we sent {sent}; with.api_key_env names the variable that holds the right one"
    elif failure.reason == "404":
        advice = f"is with.model '{model}' served there, and is the URL the one that ends before /chat/completions?"
    else:
        advice = "nothing more was sent"
    return StageError(f"{head}\n{advice}\n{reached}")


def answers_nothing(
    failure: Failure, *, urls: Sequence[str], attempts: int, reached: Reached
) -> StageError:
    """Attempt after attempt failed, and none was answered between them."""
    said = f": {failure.says}" if failure.says else ""
    return StageError(
        f"{', '.join(urls)}: {attempts} attempts in a row failed and none was answered, the last with {failure.reason}{said}\n"
        f"see that the server runs, or raise with.max_attempts or with.deadline_s\n{reached}"
    )


def refused_questions(reasons: Mapping[str, str]) -> StageError:
    """Some questions could not be asked; all others are stored.

    Args:
        reasons: by question id.
    """
    lines = [f"  {name}: {why}" for name, why in list(reasons.items())[:_NAMED]]
    if len(reasons) > _NAMED:
        lines.append(f"  and {len(reasons) - _NAMED:,} more")
    return StageError(
        "\n".join(
            [
                f"the endpoint did not answer {len(reasons):,} question{'s' if len(reasons) > 1 else ''};"
                " everything else is stored",
                *lines,
                "change or take out these questions, or what is sent; the same command asks only what is missing",
            ]
        )
    )


def not_served(model: str, *, url: str, served: Sequence[str]) -> StageError:
    """The endpoint lists its models, and ours is not among them."""
    from difflib import get_close_matches

    near = get_close_matches(model, served, n=1, cutoff=0.5)
    first = sorted(served, key=lambda name: name not in near)
    names = ", ".join(first[:_NAMED]) + (
        f" and {len(served) - _NAMED:,} more" if len(served) > _NAMED else ""
    )
    return StageError(
        f"{url} does not serve the model '{model}'\nallowed: {names}\n"
        "correct with.model; or set check_model: false where the server loads models that it does not list"
    )
