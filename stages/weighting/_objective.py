"""What mask learning minimises, for the rationales of a batch: L_k = L_p + alpha L_m (Eqs. 5-7), estimated on some prefixes.

L_p sums over all |r| prefixes and L_m over all |r| tokens, so both grow with |r|: rationale i is estimated by
|r_i| (mean over the drawn prefixes of the answer's nats + alpha * mean_j m_j), in expectation exactly L_k.
B rationales, N tokens, G prefixes of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.stages.weighting._draws import Draw
from kpod.stages.weighting._items import Item
from kpod.stages.weighting._weighter import Samples, Weighed, Weighter, sample_mask

if TYPE_CHECKING:
    import torch

    from kpod.stages.weighting._predictor import Predictor

Normalise = Literal["per_dataset", "per_rationale"]
MaskOn = Literal["plain", "contextual"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How the loss is made.

    Args:
        alpha: of Eq. 7.
        temperature: of the Gumbel-Softmax.
        samples: hard or soft.
        mask_on: what is masked: the plain embeddings, or what attention made of them (leaks).
        normalise: per_dataset: |r_i| / mean |r|, so that long rationales keep their share; per_rationale: 1.
        mean_tokens: mean |r| of all rationales.
    """

    alpha: float
    temperature: float
    samples: Samples
    mask_on: MaskOn
    normalise: Normalise
    mean_tokens: float

    def share(self, item: Item) -> float:
        """What a rationale counts in the loss of its batch."""
        return item.num_tokens / self.mean_tokens if self.normalise == "per_dataset" else 1.0


class Module(NamedTuple):
    """All that is trained: the paper's theta_w.

    Args:
        weighter: gives w.
        predictor: is shown the masked rationale.
        row_of: the table's row of each of the student's token ids.
    """

    weighter: Weighter
    predictor: Predictor
    row_of: dict[int, int]

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The trained tensors, by name; the weighter's first."""
        own = {f"weighter.{name}": value for name, value in self.weighter.parameters.items()}
        return own | self.predictor.parameters

    def weigh(self, items: Sequence[Item]) -> tuple[Weighed, torch.Tensor]:
        """What the weighter makes of these rationales, and a (B, N) mask that is True where a token stands."""
        import torch

        device = self.weighter.table_VD.device
        longest = max(item.num_tokens for item in items)
        rows = [
            [*(self.row_of[token] for token in item.token_ids), *[0] * (longest - item.num_tokens)]
            for item in items
        ]
        lengths = torch.tensor([item.num_tokens for item in items], device=device)
        is_token_BN = torch.arange(longest, device=device) < lengths[:, None]
        return self.weighter.weigh(torch.tensor(rows, device=device), is_token_BN), is_token_BN


class Losses(NamedTuple):
    """The parts of a batch's loss, before they are weighed and summed.

    Args:
        nats_G: of the answer after each drawn prefix.
        owner_G: the item that each prefix belongs to.
        kept_BN: m of every token, 0 where padded.
        shares_B: what each rationale counts.
        lengths_B: tokens of each.
    """

    nats_G: torch.Tensor
    owner_G: torch.Tensor
    kept_BN: torch.Tensor
    shares_B: torch.Tensor
    lengths_B: torch.Tensor

    def total(self, alpha: float) -> torch.Tensor:
        """Scalar: sum over rationales of share * (mean nats of the drawn prefixes + alpha * mean m)."""
        import torch

        sums_B = torch.zeros_like(self.shares_B).index_add(0, self.owner_G, self.nats_G)
        counts_B = torch.bincount(self.owner_G, minlength=len(self.shares_B))
        kept_frac_B = self.kept_BN.sum(1) / self.lengths_B
        return (self.shares_B * (sums_B / counts_B + alpha * kept_frac_B)).sum()


def losses(
    module: Module, items: Sequence[Item], draws: Sequence[Draw], objective: Objective
) -> Losses:
    """Draw a mask for each rationale, one for all its prefixes, and ask for the answers.

    Args:
        module: with gradients wherever something is trained.
        items: at least one.
        draws: noise and prefixes of each.
        objective: how.
    """
    import torch

    weighed, is_token_BN = module.weigh(items)
    noise_BN = torch.nn.utils.rnn.pad_sequence([draw.noise for draw in draws], batch_first=True)
    keep_BN = sample_mask(
        weighed.logits_BN, noise_BN.to(is_token_BN.device),
        temperature=objective.temperature, samples=objective.samples,
    ) * is_token_BN  # fmt: skip
    vectors_BND = weighed.plain_BND if objective.mask_on == "plain" else weighed.contextual_BND
    prefixes = [draw.prefixes for draw in draws]
    seen_BNE = module.predictor.show(vectors_BND, keep_BN)
    nats_G = module.predictor.answer_nats(items, seen_BNE, prefixes)
    device = nats_G.device
    owners = [b for b, ks in enumerate(prefixes) for _ in ks]
    return Losses(
        nats_G,
        torch.tensor(owners, device=device),
        keep_BN,
        torch.tensor([objective.share(item) for item in items], device=device),
        torch.tensor([float(item.num_tokens) for item in items], device=device),
    )
