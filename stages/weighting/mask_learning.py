"""Token weights by mask learning: a token counts as much as its absence hurts the prediction of the answer.

A small head gives each token of a rationale a probability w of being kept; a language model must predict the answer from the
question and any prefix of the masked rationale; kept tokens cost. After training, w is the token's significance.
Source: KPOD (Feng et al. 2024, arXiv 2405.16064) Sec. 3.3, Eqs. 2-7, and App. A; where these are silent, the setting says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from kpod.runner import (
    Context,
    Doc,
    Ge,
    Gt,
    Input,
    Le,
    Lt,
    Model,
    Output,
    Question,
    Rationale,
    Stage,
    TokenWeights,
    Volatile,
)
from kpod.stages._lm.precision import resolve_precision

if TYPE_CHECKING:
    from kpod.runner.capability import Capability


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How weights are learned."""

    alpha: Annotated[
        float,
        Doc(
            "What a kept token costs (Eq. 7). 0.5 in App. A; the best bar of Fig. 3a stands at 0.7."
        ),
        Ge(0),
    ] = 0.5
    # Eq. 4 writes m in {0, 1}, which suggests hard samples. Measured on the quickstart (2,000 problems, a copy of the shipped base as
    # predictor, trained 4 epochs with every w at 0.7; L_p in nats, every other token kept half of the time): masking the last result costs
    # 8.9 (160 validation problems); the gradient of soft samples says 7.2, that of hard ones 0.3 (300 problems), because the loss is flat
    # where a token is wholly kept. Hard samples took every weight to 0.00 at learning rates 3e-5, 1.5e-4 and 3e-4 (one seed each).
    samples: Annotated[
        Literal["hard", "soft"],
        Doc(
            "What the Gumbel-Softmax gives. soft: a token is kept in part, and its gradient tells what masking it costs; hard: kept or "
            "masked (Eqs. 4 and 6 count tokens), with the soft sample's gradient, which took all weights to 0 where we measured it."
        ),
    ] = "soft"
    temperature: Annotated[
        float, Doc("Of the Gumbel-Softmax; the paper names none, 1 is our choice."), Gt(0)
    ] = 1.0
    prefixes: Annotated[
        int | None,
        Doc(
            "Prefixes drawn of each rationale in each epoch, evenly over all lengths; null: all of them, as Eq. 5 sums. Our choice."
        ),
        Ge(4),
    ] = 4
    normalise: Annotated[
        Literal["per_dataset", "per_rationale"],
        Doc(
            "per_dataset: long rationales keep the share that Eqs. 5 and 6 give them; per_rationale: all count alike. Our choice."
        ),
    ] = "per_dataset"
    mask_on: Annotated[
        Literal["plain", "contextual"],
        Doc(
            "What is masked. plain: the token's own embedding. contextual: what attention made of it, as Fig. 1 is drawn; "
            "a kept token then tells of all others, whatever is masked, so weights mean little."
        ),
    ] = "plain"
    mask_vector: Annotated[
        Literal["learned", "zero"],
        Doc("What the predictor reads in a masked token's place; the paper is silent, our choice."),
    ] = "learned"
    heads: Annotated[
        int,
        Doc(
            "Heads of the self-attention layer; must divide the student's embedding width. Our choice."
        ),
        Ge(1),
    ] = 4
    residual: Annotated[
        bool,
        Doc(
            "Add a token's own embedding to what it attends to; without it a token's identity is diluted. Our choice."
        ),
    ] = True
    positions: Annotated[
        Literal["none", "sinusoidal"],
        Doc(
            "What tells the attention layer where a token stands; the paper is silent, our choice."
        ),
    ] = "sinusoidal"
    hidden_width: Annotated[
        int | None,
        Doc("Hidden width of the two-layer MLP (GELU); null: the embedding's width. Our choice."),
        Ge(1),
    ] = None
    initial_weight: Annotated[
        float,
        Doc(
            "Weight of every token at the start; high, so that the predictor first learns to read what it is shown. Our choice."
        ),
        Gt(0),
        Lt(1),
    ] = 0.9
    head_start_frac: Annotated[
        float,
        Doc(
            "Share of all steps at the beginning in which the predictor learns alone, with the weights as they start: one that cannot "
            "use a token yet says that none is needed. Our choice, measured on the quickstart; 0 for a predictor that knows the task."
        ),
        Ge(0),
        Lt(1),
    ] = 0.4
    train_embeddings: Annotated[
        bool,
        Doc(
            "Train the copy of the student's embedding table along; off keeps the weighting tied to the student. Our choice."
        ),
    ] = False
    # These four by measurement on 2,000 problems of the quickstart; the paper names none for this module.
    epochs: Annotated[int, Doc("Passes over all rationales. Our choice."), Ge(1)] = 5
    batch_size: Annotated[int, Doc("Rationales an optimizer step. Our choice."), Ge(1)] = 8
    learning_rate: Annotated[
        float,
        Doc(
            "Highest learning rate of AdamW for the weighter; a higher one takes fillers to 0 altogether. Our choice. It is the "
            "rate at an embedding width of 96 (the quickstart's); at width D the rate is 96 / D of it."
        ),
        Gt(0),
    ] = 4e-5
    predictor_learning_rate: Annotated[
        float,
        Doc(
            "Highest learning rate of AdamW for the predictor; models larger than the quickstart's want a lower one. Our choice."
        ),
        Gt(0),
    ] = 2e-3
    warmup_frac: Annotated[
        float,
        Doc(
            "Share of all steps in which the learning rates rise from 0; after it they fall to 0, linearly."
        ),
        Ge(0),
        Le(1),
    ] = 0.1
    grad_clip: Annotated[
        float | None,
        Doc("Largest gradient norm of weighter and predictor, each apart; null: no limit."),
        Gt(0),
    ] = 1.0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"],
        Doc("What the predictor computes in; auto: bf16 where this machine is faster with it."),
    ] = "auto"
    micro_batch_tokens: Annotated[
        int,
        Doc("Most tokens that the predictor computes at once, padding included; bounds memory."),
        Ge(1),
    ] = 4096
    checkpoint_every_s: Annotated[
        float,
        Doc("Seconds between checkpoints, from which a killed run goes on."),
        Ge(0),
        Volatile(),
    ] = 60.0


class MaskLearning(Stage[Config]):
    """Weights of every token of every rationale, learned with an answer predictor."""

    uses = "weighting.mask_learning"
    version = 1
    seeded = "recipe"
    libraries = ("torch", "transformers")
    student = Input(Model)
    predictor = Input(Model, optional=True)
    questions = Input(Question, role="train")
    rationales = Input(Rationale)
    weights = Output(TokenWeights)

    @classmethod
    def resolve(cls, config: Config, capability: Capability, models: Mapping[str, Path]) -> Config:
        """Precision auto, by the width of the predictor and what the machine is fast at."""
        model = models.get("predictor", models["student"])
        return replace(config, precision=resolve_precision(config.precision, capability, model))

    def run(self, ctx: Context[Config]) -> None:
        """Learn from the checkpoint if there is one, then write each token's w, without sampling."""
        from kpod.stages.weighting._learning import learn_weights

        learn_weights(ctx, self)
