"""What a DeepSpeed config says of settings that are the recipe's: the same, or a mistake that names both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import StageError, ZeroSettings
from kpod.stages.student._sharding import check_shardable

if TYPE_CHECKING:
    from kpod.stages.student._settings import Config

_AUTO = "auto"
_WEIGHTS_TOO = 3
# DeepSpeed's schedules that do what a recipe's `schedule` names.
_SCHEDULES = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
# torch's AdamW, whose defaults students take.
_BETAS, _EPSILON = [0.9, 0.999], 1e-8


class _Claim(NamedTuple):
    """Something that both say.

    Args:
        name: in the DeepSpeed config.
        got: what stands there.
        setting: of the recipe.
        own: what stands there.
    """

    name: str
    got: object
    setting: str
    own: object


def check_zero(settings: ZeroSettings, config: Config, *, is_judged: bool) -> None:
    """Refuse what DeepSpeed and a student do not do together.

    Args:
        settings: how DeepSpeed spreads.
        config: of the student.
        is_judged: whether it is judged while it trains.

    Raises:
        StageError: it would train otherwise than the recipe says, has quantised weights or moments, or is to be judged while
            no process holds it whole.
    """
    check_shardable(config, by="DeepSpeed")
    check_claims(settings, config)
    if is_judged and settings.stage == _WEIGHTS_TOO:
        raise StageError(
            f"{settings.where} has zero_optimization.stage: {settings.stage}, and validation is wired, which wants a student that is whole\n"
            "set stage: 2, or distributed_type: FSDP with fsdp_version: 2, or unwire validation"
        )


def check_claims(settings: ZeroSettings, config: Config) -> None:
    """Refuse a DeepSpeed config that would train otherwise than the recipe says.

    Raises:
        StageError: the first difference.
    """
    for claim in _claims(settings.claims, config):
        if claim.got != claim.own:
            raise StageError(
                f"{settings.where} has {claim.name}: {claim.got}, but the recipe's {claim.setting} is {claim.own}\n"
                f'set "{_AUTO}" there, or change one of them'
            )


def _claims(said: Mapping[str, Any], config: Config) -> Iterator[_Claim]:
    if "train_batch_size" in said:
        yield _Claim("train_batch_size", said["train_batch_size"], "batch_size", config.batch_size)
    if "gradient_clipping" in said:
        own = 0.0 if config.grad_clip is None else config.grad_clip
        yield _Claim("gradient_clipping", said["gradient_clipping"], "grad_clip", own)
    computes = (said.get("bf16") or {}).get("enabled", _AUTO)
    if computes != _AUTO:
        own_bf16 = config.computes_in_bf16
        yield _Claim("bf16.enabled", computes, "precision (auto resolved) in bf16", own_bf16)
    yield from _of_optimizer(said.get("optimizer") or {}, config)
    yield from _of_schedule(said.get("scheduler") or {}, config)


def _of_optimizer(said: Mapping[str, Any], config: Config) -> Iterator[_Claim]:
    if not said:
        return
    yield _Claim("optimizer.type", str(said.get("type")).lower(), "optimizer", config.optimizer)
    own: dict[str, tuple[str, object]] = {
        "lr": ("learning_rate", config.learning_rate),
        "weight_decay": ("weight_decay", config.weight_decay),
        "betas": ("optimizer with betas", _BETAS),
        "eps": ("optimizer with epsilon", _EPSILON),
    }
    for name, got in (said.get("params") or {}).items():
        if got != _AUTO:
            setting, value = own.get(name, ("optimizer with it", None))
            yield _Claim(f"optimizer.params.{name}", got, setting, value)


def _of_schedule(said: Mapping[str, Any], config: Config) -> Iterator[_Claim]:
    if not said:
        return
    kind = str(said.get("type"))
    if _SCHEDULES.get(kind) != config.schedule:
        yield _Claim("scheduler.type", kind, "schedule", config.schedule)
    for name, got in (said.get("params") or {}).items():
        if got != _AUTO:
            yield _Claim(f"scheduler.params.{name}", got, "schedule", config.schedule)
