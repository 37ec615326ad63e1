"""What a student's settings ask of the memory, and how far it goes: the forecast of a Config, its budget, its changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kpod.stages.student._adapter import Lora
from kpod.stages.student._memory import Memory, forecast
from kpod.stages.student._shape import Shape

if TYPE_CHECKING:
    from kpod.stages.student._settings import Config

# What a training may take of the device's memory where the recipe does not say: our choice; the rest is for the forecast's
# error (at most a quarter, measured) and for what else runs there.
BUDGET_FRAC = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """All that the forecast reads, as `forecast` names it.

    Args:
        shape: of the model.
        config: every `auto` that the forecast reads resolved.
        micro_batch_tokens: most tokens computed at once.
        is_checkpointing: whether activations are computed twice.
        longest: tokens of the longest sequence.
        device: cpu or cuda.
        num_shards: processes that the training is spread over.
        zero_stage: of DeepSpeed, if that spreads it; 0: weights are, block by block.
    """

    shape: Shape
    config: Config
    micro_batch_tokens: int
    is_checkpointing: bool
    longest: int
    device: str
    num_shards: int = 1
    zero_stage: int = 0

    @property
    def memory(self) -> Memory:
        """The forecast."""
        config = self.config
        # No micro-batch has more tokens than the step: its sequences, each as long as the longest.
        tokens = min(self.micro_batch_tokens, config.batch_size * self.longest)
        whole = forecast(
            self.shape, method=config.method, lora=config.lora, precision=config.precision, compute=config.compute,
            optimizer=config.optimizer, micro_batch_tokens=tokens, is_checkpointing=self.is_checkpointing,
            longest=self.longest, device=self.device,
        )  # fmt: skip
        if self.num_shards == 1:
            return whole
        spread = self._moments_spread(whole) if self.zero_stage in {1, 2} else self._spread(whole)
        # DeepSpeed steps a copy of a process's part. What trains has gradients in fp32, as it is held itself.
        copied = whole.gradients // self.num_shards if self.zero_stage else 0
        return replace(spread, weights=spread.weights + copied)

    def _moments_spread(self, whole: Memory) -> Memory:
        """ZeRO-1 and -2: gradients are whole until they are added up; in ZeRO-2 its buffer of that size stays there."""
        return replace(whole, moments=whole.moments // self.num_shards)

    def _spread(self, whole: Memory) -> Memory:
        """A process's part, and what it gathers to compute: what is outside of layers, one layer, and the next one meanwhile."""
        num, shape = self.num_shards, self.shape
        outside = shape.embedding_parameters / shape.num_parameters
        gathered = outside + (1 - outside) * min(1.0, 2 / (shape.layers + shape.encoder_layers))
        is_full = self.config.method == "full"
        return replace(
            whole,
            weights=int(whole.weights * min(1.0, 1 / num + gathered)),
            adapters=whole.adapters // num,
            gradients=int(whole.gradients * min(1.0, 1 / num + (gathered if is_full else 0.0))),
            moments=whole.moments // num,
        )


def budget_b(memory_gb: float | None, memory_b: int) -> int:
    """Bytes that a training may take: what the recipe says, else 80 % of the device's memory."""
    return int(BUDGET_FRAC * memory_b if memory_gb is None else memory_gb * 1e9)


def checkpointing_choices(config: Config) -> tuple[bool, ...]:
    """What gradient checkpointing may be, the faster first."""
    wanted = config.gradient_checkpointing
    return (False, True) if wanted == "auto" else (wanted,)


def cheaper(demand: Demand) -> dict[str, Demand]:
    """Changes of the recipe that take less memory, as they are written there, each by itself."""
    config, found = demand.config, dict[str, Demand]()
    if demand.micro_batch_tokens > demand.longest:
        tokens = max(demand.longest, demand.micro_batch_tokens // 4)
        found[f"micro_batch_tokens: {tokens}"] = replace(demand, micro_batch_tokens=tokens)
    if not demand.is_checkpointing:
        found["gradient_checkpointing: true"] = replace(demand, is_checkpointing=True)
    found |= {
        text: replace(demand, config=changed) for text, changed in _cheaper_settings(config, demand)
    }
    length = demand.longest // 2
    found[f"max_length: {length} with on_too_long: drop"] = replace(demand, longest=length)
    now = demand.memory.total
    # Less than a twentieth is no way out.
    return {text: changed for text, changed in found.items() if changed.memory.total < 0.95 * now}


def _cheaper_settings(config: Config, demand: Demand) -> list[tuple[str, Config]]:
    if config.method == "full":
        as_adapter = replace(config, method="lora", lora=Lora(), saved_precision="fp32")
        return [
            ("method: lora", as_adapter),
            ("optimizer: adamw_8bit", replace(config, optimizer="adamw_8bit")),
        ]
    found = []
    if config.precision in {"fp32", "bf16"} and not demand.shape.encoder_layers:
        compute = config.precision
        found.append(("precision: nf4", replace(config, precision="nf4", compute=compute)))
    if config.precision == "fp32":
        found.append(("precision: bf16", replace(config, precision="bf16")))
    if config.lora.rank > 8:
        found.append(("lora: {rank: 8}", replace(config, lora=replace(config.lora, rank=8))))
    return found
