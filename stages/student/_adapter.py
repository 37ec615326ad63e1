"""LoRA: which layers it adapts, its start from the seed, and its files, whose bytes tell nothing of the machine.

Source: Hu et al. 2022 (LoRA); the layers come from peft.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from kpod.runner import Added, Doc, Ge, Gt, Lt, StageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Size and place of the low-rank matrices."""

    rank: Annotated[
        int, Doc("Rank of the added matrices; KPOD App. A: 64 for LLaMA-7B."), Ge(1)
    ] = 16
    alpha: Annotated[
        float, Doc("Their product counts alpha / rank times; our default, twice the rank."), Gt(0)
    ] = 32.0
    dropout: Annotated[
        float, Doc("Share of the inputs that is dropped in training; our default."), Ge(0), Lt(1)
    ] = 0.0
    targets: Annotated[
        tuple[str, ...],
        Doc(
            'Names of the linear layers to adapt, e.g. ["q_proj", "v_proj"]; empty: all but the output layer.'
        ),
    ] = ()
    rslora: Annotated[
        bool,
        Doc("Their product counts alpha / sqrt(rank) times (Kalajdzievski 2023, rsLoRA)."),
        Added(),
    ] = False
    dora: Annotated[
        bool,
        Doc("Direction and length of each weight are learnt apart (Liu et al. 2024, DoRA)."),
        Added(),
    ] = False


def add_lora(model: Any, lora: Lora, *, seed: int) -> Any:
    """The model with fresh LoRA matrices, the only parameters that train.

    Args:
        model: a transformers model; its layers are replaced in place.
        lora: size and place.
        seed: of the matrices that start random.

    Raises:
        StageError: a target names no linear layer of the model.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from kpod.stages._lm.loading import quiet

    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora.targets),
        bias="none",
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=_cuda_devices(model)), quiet():
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def _cuda_devices(model: Any) -> list[Any]:
    device = next(model.parameters()).device
    return [device] if device.type == "cuda" else []


def _targets(model: Any, wanted: Sequence[str]) -> list[str]:
    """Names of the layers to adapt, as peft matches them: the whole name, or its end after a dot."""
    import torch

    head = model.get_output_embeddings()
    linear = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]
    names = sorted({name.rpartition(".")[2] for name in linear})
    missing = [
        want for want in wanted if not any(f".{name}".endswith(f".{want}") for name in linear)
    ]
    if missing:
        raise StageError(
            f"lora.targets: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} no linear layer of"
            f" {type(model).__name__}\nallowed: {', '.join(names)}, or a longer name such as {linear[0]}"
        )
    return sorted(set(wanted)) or names


def write_adapter(model: Any, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors, as peft reads them.

    The base stands in model.json by its content, so its path is left out; lists are sorted, because peft keeps sets.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in get_peft_model_state_dict(model).items()
    }
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": None, "revision": None, "inference_mode": True}
    text = json.dumps(_plain(config), sort_keys=True, indent=2)
    (folder / "adapter_config.json").write_text(text + "\n", encoding="utf-8", newline="\n")


def _plain(value: Any) -> Any:
    """Sets as sorted lists and enumerations as their values, all the way down."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(_plain, value))
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)
