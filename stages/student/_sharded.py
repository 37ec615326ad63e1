"""A student whose weights are spread over processes: each holds a part of every tensor, and gathers a block when it computes.

Source: Zhao et al. 2023 (PyTorch FSDP, arXiv 2304.11277); torch's `fully_shard` (FSDP2). Gradients are added up over
processes where they arise, block by block, so that they are those of the whole step as with one process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from kpod.runner import StageError
from kpod.stages._lm.parts import Parts
from kpod.stages._lm.passages import Batch, Passage, pad
from kpod.stages.student._norms import restore_norms
from kpod.stages.student._processes import Shards
from kpod.stages.student._sharding import Sharding

if TYPE_CHECKING:
    import torch

    from kpod.stages.student._team import Team

# With it and ACCELERATE_USE_FSDP, transformers would leave the weights of all ranks but the first unread.
_LEAVE_UNREAD = "FSDP_CPU_RAM_EFFICIENT_LOADING"


class ShardedParts(Parts):
    """A language model in pieces; all processes must compute with it together.

    Attributes:
        root: the module that everything hangs under; its weights are gathered when it is called, and stay so until the
            backward pass or `reshard`.
    """

    root: Any

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Hidden states (N, D) that predict the targets of this process's batch."""
        return self.root(batch)  # type: ignore[no-any-return]


def load_sharded(
    team: Shards, device: torch.device, load: Callable[[], Parts], *, probe_ids: tuple[int, ...]
) -> ShardedParts:
    """Load a student on every process and keep a part of it on each.

    Args:
        team: all of these.
        device: where it trains.
        load: gives the whole student, in main memory.
        probe_ids: some tokens, to compute once with the parts.
    """
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (team.size,))
    with _all_read(), _in_turn(team):
        student = _shard(load(), team.sharding, mesh)
    _compute_once(student, probe_ids)
    return student


@contextmanager
def _in_turn(team: Shards) -> Iterator[None]:
    """One process after the other, where this was asked for; who fails lets the others fail likewise."""
    turns = team.size if team.sharding.is_loaded_in_turn else 0
    for _ in range(min(team.rank, turns)):
        team.wait()
    try:
        yield
    finally:
        for _ in range(team.rank, turns):
            team.wait()


@contextmanager
def _all_read() -> Iterator[None]:
    kept = os.environ.get(_LEAVE_UNREAD)
    if kept is None:
        yield
        return
    os.environ[_LEAVE_UNREAD] = "false"
    try:
        yield
    finally:
        os.environ[_LEAVE_UNREAD] = kept


def _shard(student: Parts, sharding: Sharding, mesh: Any) -> ShardedParts:
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if mesh.device_type != "cpu":
        restore_norms(student.model)  # made for a CPU, where the model was loaded
    for block in _blocks(student, sharding):
        fully_shard(block, mesh=mesh, reshard_after_forward=sharding.is_resharded)
    sharded = ShardedParts(*student)
    # The output layer is used after the root's forward pass: its weights must still be there.
    sharded.root = fully_shard(_root_class()(student), mesh=mesh, reshard_after_forward=False)
    for module in sharded.root.modules():
        if isinstance(module, FSDPModule):
            # The sum over processes, not the mean: denominators are those of the whole step. gloo has sums only.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return sharded


def _blocks(student: Parts, sharding: Sharding) -> list[Any]:
    if sharding.blocks is None:
        return []
    names = sharding.blocks or tuple(getattr(student.inner, "_no_split_modules", None) or ())
    there = [type(module).__name__ for module in student.model.modules()]
    missing = [name for name in names if name not in there]
    if missing or not names:
        own = sorted(getattr(student.inner, "_no_split_modules", None) or ())
        raise StageError(
            f"fsdp_transformer_layer_cls_to_wrap names {', '.join(missing) or 'nothing'}, and {type(student.inner).__name__}"
            f" has no such layers\nallowed: {', '.join(own) or 'names of its layers'}, or fsdp_auto_wrap_policy: NO_WRAP"
        )
    return [module for module in student.model.modules() if type(module).__name__ in names]


@cache
def _root_class() -> Any:
    """The module around a student; made once torch is there."""
    import torch

    class Root(torch.nn.Module):
        def __init__(self, student: Parts) -> None:
            super().__init__()
            self.model = student.model
            self._hidden = student.hidden

        def forward(self, batch: Batch) -> torch.Tensor:
            return self._hidden(batch)

    return Root


def _compute_once(student: ShardedParts, probe_ids: tuple[int, ...]) -> None:
    """The first pass tells torch which module is the root; what is judged later calls others first."""
    import torch

    probe = Passage(probe_ids, probe_ids, (1.0,) * len(probe_ids))
    with torch.no_grad():
        student.hidden(pad([probe], device=student.device, encoder=student.encoder))
    give_back(student)


def give_back(student: ShardedParts) -> None:
    """Keep own parts only, of what was gathered and no backward pass gives back."""
    from torch.distributed.fsdp import FSDPModule

    for module in student.root.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def judged_together(student: Parts, team: Team) -> Iterator[Team]:
    """The team of those who judge a student: the first process alone, or all of them where each holds a part of it."""
    if not isinstance(student, ShardedParts):
        yield team
        return
    assert isinstance(team, Shards), "who holds a part has others who hold the rest"
    student.root.unshard()
    try:
        yield team.judges()
    finally:
        give_back(student)


def whole_model(student: ShardedParts, team: Team) -> Any:
    """The model with all its trained weights, in the main memory of the first process; all must call this.

    Returns:
        Of a student with an adapter peft's model, whose frozen weights stay in pieces; else one of transformers. On other
        processes one that nothing can be done with.
    """
    give_back(student)
    if student.model is not student.inner:
        for name, parameter in list(student.model.named_parameters()):
            if parameter.requires_grad:
                whole = gathered(parameter, keep=team.is_first)
                _put(student.model, name, _like(parameter, whole))
        return student.model
    return _whole_inner(student.inner, keep=team.is_first)


def _whole_inner(inner: Any, *, keep: bool) -> Any:
    """A model of the same class; FSDP2 cannot be taken off the modules of the old one."""
    import torch

    with torch.device("meta"):
        model = type(inner)(inner.config)
    made: dict[int, torch.Tensor | None] = {}
    for name, value in inner.state_dict(
        keep_vars=True
    ).items():  # weights that are tied stand in it twice
        if id(value) not in made:
            made[id(value)] = _like(value, gathered(value, keep=keep))
        _put(model, name, made[id(value)])
    model.generation_config = inner.generation_config
    return model


def _put(model: Any, name: str, value: torch.Tensor | None) -> None:
    path, _, leaf = name.rpartition(".")
    if value is not None:
        module = model.get_submodule(path)
        places = module._parameters if leaf in module._parameters else module._buffers
        places[leaf] = value


def _like(value: torch.Tensor, whole: torch.Tensor | None) -> torch.Tensor | None:
    import torch

    if whole is None or not isinstance(value, torch.nn.Parameter):
        return whole
    return torch.nn.Parameter(whole, requires_grad=value.requires_grad)


def gathered(value: torch.Tensor, *, keep: bool) -> torch.Tensor | None:
    """A tensor with the parts of all processes, in main memory; all must call this.

    Args:
        value: in pieces, or whole.
        keep: whether this process wants it; None comes back where it does not.
    """
    detached: Any = value.detach()
    whole = detached.full_tensor() if is_in_pieces(value) else detached
    return whole.cpu() if keep else None


def own_part(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Of a whole tensor, the part that this process holds of another one of the same shape; nothing is communicated."""
    from torch.distributed.tensor import distribute_tensor

    pieces: Any = like
    return distribute_tensor(
        whole.to(like.device), pieces.device_mesh, pieces.placements, src_data_rank=None
    )


def is_in_pieces(value: object) -> bool:
    """Whether a tensor is spread over processes."""
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def gathered_all(parameters: Mapping[str, torch.Tensor], *, keep: bool) -> dict[str, torch.Tensor]:
    """As `gathered`, of many, one after the other; empty where they are not wanted."""
    found = {name: gathered(value, keep=keep) for name, value in parameters.items()}
    return {name: value for name, value in found.items() if value is not None}
