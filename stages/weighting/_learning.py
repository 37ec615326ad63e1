"""What weighting.mask_learning does when it runs: encode, learn, write each token's weight, tell what it looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from kpod.runner import Context, Question, Rationale, TokenWeights
from kpod.stages._lm.artifact import ModelFiles, locate
from kpod.stages._lm.embeddings import input_embeddings
from kpod.stages._lm.loading import (
    load_lm,
    load_tokenizer,
    pick_device,
    read_limits,
    set_threads,
)
from kpod.stages._lm.parts import take_apart
from kpod.stages._lm.token_weights import token_weights
from kpod.stages.weighting._diagnostics import mean_weights
from kpod.stages.weighting._draws import stream
from kpod.stages.weighting._items import Item, encode_items
from kpod.stages.weighting._objective import Module, Objective
from kpod.stages.weighting._predictor import Predictor
from kpod.stages.weighting._training import Tally, Training, train
from kpod.stages.weighting._weighter import Shape, Weighter

if TYPE_CHECKING:
    import torch

    from kpod.stages.weighting.mask_learning import Config, MaskLearning

# Rationales whose weights are computed at once; too small to bear on memory.
_WEIGHED_AT_ONCE = 64
# The width at which the default learning rate was found.
_REFERENCE_WIDTH = 96
# Of w in the output: more digits would differ between machines.
_DECIMALS = 6


class Learned(NamedTuple):
    """What came of mask learning.

    Args:
        module: trained.
        tally: what was done.
        is_packed: whether the predictor read all prefixes of a rationale in one row.
    """

    module: Module
    tally: Tally
    is_packed: bool


def learn_weights(ctx: Context[Config], stage: MaskLearning) -> None:
    """Encode, learn, write; notes hold the diagnostics."""
    questions = {question.id: question for question in ctx.read(stage.questions)}
    rationales = list(ctx.read(stage.rationales))
    files = _files(ctx, stage)
    items = encode(files, list(questions.values()), rationales)
    learned = learn(ctx, files, items)
    rows = list(weights_of(learned.module, items))
    with ctx.write(stage.weights) as out:
        for row in rows:
            out.add(row)
    _note(ctx, learned, questions, rationales, rows)


class Files(NamedTuple):
    """Where the models lie.

    Args:
        student: whose tokens are weighed.
        predictor: the answer predictor; the student itself where none is wired.
    """

    student: ModelFiles
    predictor: ModelFiles

    @property
    def is_copy(self) -> bool:
        """Whether the predictor begins as a copy of the student."""
        return self.student.digest == self.predictor.digest


def _files(ctx: Context[Any], stage: MaskLearning) -> Files:
    student = locate(ctx, stage.student)
    is_wired = ctx.is_wired(stage.predictor)
    return Files(student, locate(ctx, stage.predictor) if is_wired else student)


def encode(
    files: Files, questions: Sequence[Question], rationales: Sequence[Rationale]
) -> list[Item]:
    """The rationales as both models read them; errors as `encode_items`."""
    predictor = load_tokenizer(files.predictor)
    return encode_items(
        student=load_tokenizer(files.student),
        predictor=predictor,
        questions=questions,
        rationales=rationales,
        context_tokens=read_limits(files.predictor, predictor).context_tokens,
    )


def learn(ctx: Context[Config], files: Files, items: Sequence[Item]) -> Learned:
    """Train the weighting module on these rationales. Errors as `train`."""
    config = ctx.config
    set_threads(ctx.placement)
    objective = Objective(
        alpha=config.alpha, temperature=config.temperature, samples=config.samples,
        mask_on=config.mask_on, normalise=config.normalise,
        mean_tokens=sum(item.num_tokens for item in items) / len(items),
    )  # fmt: skip
    module = new_module(config, files, items, seed=ctx.seed, device=pick_device(ctx.placement))
    is_packed = _choose_layout(module, items[0])
    training = Training(
        objective=objective, seed=ctx.seed, epochs=config.epochs, batch_size=config.batch_size,
        prefixes=config.prefixes,
        learning_rate=config.learning_rate * rate_share(module.weighter.table_VD.shape[1]),
        predictor_learning_rate=config.predictor_learning_rate, warmup_frac=config.warmup_frac, head_start_frac=config.head_start_frac,
        grad_clip=config.grad_clip, micro_batch_tokens=config.micro_batch_tokens,
        checkpoint_every_s=config.checkpoint_every_s,
    )  # fmt: skip
    return Learned(module, train(ctx, module, items, training), is_packed)


def rate_share(width: int) -> float:
    """What the weighter's learning rate is multiplied with: a step of Adam moves a logit by its rate times the layer's inputs.

    The rule is that of the maximal update parametrisation (Yang et al. 2022, from memory), here for all layers alike. Our choice.
    """
    return _REFERENCE_WIDTH / width


def new_module(
    config: Config, files: Files, items: Sequence[Item], *, seed: int, device: torch.device
) -> Module:
    """Weighter and predictor at their start."""
    assert config.precision != "auto", "the runner resolves auto"
    table_VD = input_embeddings(files.student)
    unit = float(table_VD.square().mean().sqrt())
    used = sorted({token for item in items for token in item.token_ids})
    weighter = Weighter(
        table_VD[used],
        unit=unit,
        shape=Shape(
            heads=config.heads, residual=config.residual, positions=config.positions,
            hidden_width=config.hidden_width, initial_weight=config.initial_weight, train_embeddings=config.train_embeddings,
        ),
        seed=stream(seed, "weighter").getrandbits(63),
    ).to(device)  # fmt: skip
    # All its weights are trained, so they are held in fp32 and computed in the precision that the recipe asks for.
    model: Any = load_lm(files.predictor, precision="fp32", device=str(device))
    model.requires_grad_(True)
    predictor = Predictor(
        take_apart(model, precision=config.precision, probe_ids=items[0].question_ids[:8]),
        width=table_VD.shape[1], is_copy=files.is_copy, mask_vector=config.mask_vector,
        typical_size=unit, seed=stream(seed, "predictor").getrandbits(63),
    )  # fmt: skip
    return Module(weighter, predictor, {token: row for row, token in enumerate(used)})


def _choose_layout(module: Module, item: Item) -> bool:
    """Try packed rows on one rationale, half of it masked."""
    import torch

    with torch.no_grad():
        weighed, is_token_1N = module.weigh([item])
        keep_1N = torch.arange(item.num_tokens, device=is_token_1N.device)[None] % 2
        seen_1NE = module.predictor.show(weighed.plain_BND, keep_1N.float())
    return module.predictor.choose_layout(item, seen_1NE)


def weights_of(module: Module, items: Sequence[Item]) -> Iterator[TokenWeights]:
    """The weight w of every token, without sampling, in the order of the items."""
    import torch

    for start in range(0, len(items), _WEIGHED_AT_ONCE):
        group = items[start : start + _WEIGHED_AT_ONCE]
        with torch.no_grad():
            weighed, _ = module.weigh(group)
            rows = weighed.logits_BN.double().sigmoid().tolist()
        for item, row in zip(group, rows, strict=True):
            found = token_weights(item.id, item.spans, row[: item.num_tokens], text=item.text)
            yield TokenWeights(
                rationale_id=found.rationale_id,
                spans=found.spans,
                weights=tuple(round(weight, _DECIMALS) for weight in found.weights),
            )


def _note(
    ctx: Context[Config],
    learned: Learned,
    questions: dict[str, Question],
    rationales: Sequence[Rationale],
    rows: Sequence[TokenWeights],
) -> None:
    """What a person wants to know of the weights and of the training."""
    by_id = {row.rationale_id: row for row in rows}
    means = mean_weights((questions[one.question_id], one, by_id[one.id]) for one in rationales)
    tally = learned.tally
    ctx.note("mean_weights", means._asdict())
    ctx.note("answer_nats_by_quarter_of_the_prefix", [epoch.quarters for epoch in tally.epochs])
    ctx.note("keep_rate", [epoch.kept / epoch.tokens for epoch in tally.epochs])
    ctx.note("kept_tokens_per_rationale", [epoch.kept / epoch.rationales for epoch in tally.epochs])
    ctx.note("rationale_tokens", tally.epochs[-1].tokens)
    ctx.note("seconds", round(tally.seconds, 3))
    if not learned.is_packed:
        ctx.note("layout", "one row for every prefix: the predictor takes no mask of ours")
    told = [
        f"{name.replace('_', ' ')} {value:.2f}" for name, value in means._asdict().items() if value is not None
    ]  # fmt: skip
    ctx.note("summary", f"{len(rows):,} rationales; mean weight: {', '.join(told)}")
