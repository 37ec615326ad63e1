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

_NOT_SETTINGS = ("base_model_name_or_path", "revision", "inference_mode", "peft_version", "auto_mapping")  # fmt: skip
_OUR_NAMES = {
    "r": "rank",
    "lora_alpha": "alpha",
    "lora_dropout": "dropout",
    "target_modules": "targets",
    "use_rslora": "rslora",
    "use_dora": "dora",
}


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

    from kpod.stages._lm.loading import quiet

    with quiet(), torch.random.fork_rng(devices=_cuda_devices(model)):
        from peft import get_peft_model

        config = _peft_config(model, lora)
        torch.manual_seed(seed)
        return get_peft_model(model, config)


def continue_lora(model: Any, lora: Lora, adapter: Path) -> Any:
    """The model with the matrices of an adapter, the only parameters that train.

    Args:
        model: the transformers model that the adapter belongs to.
        lora: its size and place, which must be the adapter's.
        adapter: folder as `write_adapter` leaves it.

    Raises:
        StageError: the adapter has other settings; both are shown.
    """
    import torch

    from kpod.stages._lm.loading import quiet

    with quiet(), torch.random.fork_rng(devices=_cuda_devices(model)):
        from peft import PeftConfig, PeftModel

        there = _settings(PeftConfig.from_pretrained(str(adapter)))
        here = _settings(_peft_config(model, lora))
        differing = [name for name in here if there.get(name) != here[name]]
        if differing:
            shown = "; ".join(
                f"{_OUR_NAMES.get(name, name)} is {there.get(name)} there and {here[name]} here"
                for name in sorted(differing)
            )
            raise StageError(
                f"the model to train is an adapter, and `lora` has other settings than it: {shown}\n"
                "set lora to the adapter's own to train it on, or method: full to merge it and train all weights"
            )
        return PeftModel.from_pretrained(model, str(adapter), is_trainable=True)


def _peft_config(model: Any, lora: Lora) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_targets(model, lora.targets),
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        bias="none",
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
    )


def _settings(config: Any) -> dict[str, Any]:
    """What bears on an adapter's matrices: without what its file says of the base and of the library."""
    row = _plain(config.to_dict())
    return {name: value for name, value in row.items() if name not in _NOT_SETTINGS}


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
            f"lora.targets: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} no linear layer"
            f"{_but_the_ends(model, missing)} of {type(model).__name__}\n"
            f"allowed: {', '.join(names)}, or a longer name such as {linear[0]}"
        )
    return sorted(set(wanted)) or names


def _but_the_ends(model: Any, missing: Sequence[str]) -> str:
    """Why output layer and embedding are not adapted, where one of them was meant.

    Where the two are one matrix, an adapter on one of them would untie what merging has to write as one.
    """
    ends = {id(model.get_output_embeddings()), id(model.get_input_embeddings())}
    names = [name for name, module in model.named_modules() if id(module) in ends]
    meant = any(f".{name}".endswith(f".{want}") for name in names for want in missing)
    is_tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    tied = ", which are one matrix here," if is_tied else ""
    return f" between embedding and output layer{tied}" if meant else ""


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
