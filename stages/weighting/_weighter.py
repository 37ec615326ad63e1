"""The token weighting module: Emb -> one self-attention layer -> two-layer MLP -> sigmoid, and the mask drawn from it.

Source: KPOD Sec. 3.3, Eqs. 2-4 and App. A. Heads, residual, positions, width and activation of the layers are stated
nowhere: they are settings, or said beside the code. B rationales, N tokens, D width of the embedding, H heads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from kpod.runner import StageError

if TYPE_CHECKING:
    import torch

Positions = Literal["none", "sinusoidal"]
Samples = Literal["hard", "soft"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the paper leaves open about the module.

    Args:
        heads: of the self-attention layer.
        residual: whether a token's own embedding is added to what it attends to.
        positions: what tells the attention layer where a token stands.
        hidden_width: of the MLP; None: the embedding's width.
        initial_weight: w of every token at the start, in (0, 1).
        train_embeddings: whether Emb is trained along.
    """

    heads: int
    residual: bool
    positions: Positions
    hidden_width: int | None
    initial_weight: float
    train_embeddings: bool


class Weighed(NamedTuple):
    """What the module makes of rationales.

    Args:
        plain_BND: Emb(r).
        contextual_BND: e = Att(Emb(r)), Eq. 2, in the units of Emb.
        logits_BN: of w, Eq. 3: w = sigmoid(logits).
    """

    plain_BND: torch.Tensor
    contextual_BND: torch.Tensor
    logits_BN: torch.Tensor


class Weighter:
    """The module's parameters, by name, and its forward pass.

    Args:
        table_VD: rows of the student's input embedding; copied. Rows that no rationale uses may be left out.
        unit: root mean square of the student's whole table. The layers read Emb / unit, so that they start alike whatever
            the scale of a model's embeddings (0.015 in Qwen2.5, some tens in T5).
        shape: what the paper leaves open.
        seed: of the layers' start. The output layer starts at zero but for its bias, so that all tokens start at one w.

    Raises:
        StageError: the heads do not divide the width.
    """

    def __init__(self, table_VD: torch.Tensor, *, unit: float, shape: Shape, seed: int) -> None:
        width = table_VD.shape[1]
        if width % shape.heads:
            raise StageError(
                f"heads: {shape.heads} does not divide the student's embedding width {width}\n"
                f"allowed: a divisor of {width}, such as {math.gcd(width, 8)}"
            )
        self.shape = shape
        self.unit = unit
        self.table_VD = table_VD.clone().requires_grad_(shape.train_embeddings)
        self.layers = _start(width, shape, seed)

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The trained tensors, by name."""
        return self.layers | ({"table": self.table_VD} if self.shape.train_embeddings else {})

    def to(self, device: torch.device) -> Weighter:
        """The same module on a device; to be called before an optimizer is made."""
        for name, value in self.layers.items():
            self.layers[name] = value.detach().to(device).requires_grad_()
        self.table_VD = (
            self.table_VD.detach().to(device).requires_grad_(self.shape.train_embeddings)
        )
        return self

    def weigh(self, rows_BN: torch.Tensor, is_token_BN: torch.Tensor) -> Weighed:
        """Embeddings and logits of w.

        Args:
            rows_BN: int64, rows of the table.
            is_token_BN: bool, False where padded; padding is never attended to.
        """
        import torch.nn.functional as F  # noqa: N812 - the name everybody knows

        plain_BND = F.embedding(rows_BN, self.table_VD)
        own_BND = plain_BND / self.unit
        attended_BND = self._attend(own_BND, is_token_BN)
        e_BND = own_BND + attended_BND if self.shape.residual else attended_BND
        layers = self.layers
        # GELU is our choice: the paper names no activation.
        hidden = F.gelu(F.linear(e_BND, layers["mlp.0.weight"], layers["mlp.0.bias"]))
        logits_BN = F.linear(hidden, layers["mlp.1.weight"], layers["mlp.1.bias"]).squeeze(-1)
        return Weighed(plain_BND, e_BND * self.unit, logits_BN)

    def _attend(self, own_BND: torch.Tensor, is_token_BN: torch.Tensor) -> torch.Tensor:
        """One layer of scaled dot-product attention, both ways (Vaswani et al. 2017, Eq. 1)."""
        import torch.nn.functional as F  # noqa: N812

        placed_BND = own_BND
        if self.shape.positions == "sinusoidal":
            placed_BND = own_BND + _sinusoids(*own_BND.shape[1:]).to(own_BND)
        heads = self.shape.heads

        def split(name: str) -> torch.Tensor:
            values = F.linear(placed_BND, self.layers[f"attention.{name}.weight"])
            return values.view(*values.shape[:2], heads, -1).transpose(1, 2)

        mixed_BHNd = F.scaled_dot_product_attention(
            split("query"), split("key"), split("value"), attn_mask=is_token_BN[:, None, None, :]
        )
        return F.linear(
            mixed_BHNd.transpose(1, 2).flatten(2), self.layers["attention.output.weight"]
        )


def sample_mask(
    logits_BN: torch.Tensor, noise_BN: torch.Tensor, *, temperature: float, samples: Samples
) -> torch.Tensor:
    """Keep (1) or mask (0) each token: a binary Gumbel-Softmax on [log(1 - w), log w] (Eq. 4).

    The softmax over two classes is the sigmoid of their difference, and the difference of two Gumbel variables is
    logistic: keep = sigmoid((log w - log(1 - w) + noise) / temperature).

    Args:
        logits_BN: log w - log(1 - w).
        noise_BN: logistic, of the same shape.
        temperature: > 0; the paper names none, 1 is our choice.
        samples: hard: exactly 0 or 1 forward, the soft sample's gradient backward; soft: in (0, 1).

    Source: Jang et al. 2016 (Gumbel-Softmax, straight-through).
    """
    soft_BN = ((logits_BN + noise_BN) / temperature).sigmoid()
    if samples == "soft":
        return soft_BN
    # The bracket is exactly zero, so that the sum is exactly 0 or 1.
    return (soft_BN > 0.5).to(soft_BN) + (soft_BN - soft_BN.detach())


def _start(width: int, shape: Shape, seed: int) -> dict[str, torch.Tensor]:
    """The layers' first values: matrices uniform with variance 1 / inputs, the output layer the same w for every token."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    hidden = shape.hidden_width or width

    def matrix(rows: int, columns: int) -> torch.Tensor:
        bound = math.sqrt(3.0 / columns)
        return (torch.rand(rows, columns, generator=generator) * 2 - 1) * bound

    names = ("query", "key", "value", "output")
    values = {f"attention.{name}.weight": matrix(width, width) for name in names} | {
        "mlp.0.weight": matrix(hidden, width),
        "mlp.0.bias": torch.zeros(hidden),
        "mlp.1.weight": torch.zeros(1, hidden),
        "mlp.1.bias": torch.tensor([shape.initial_weight]).logit(),
    }
    return {name: value.requires_grad_() for name, value in values.items()}


def _sinusoids(length: int, width: int) -> torch.Tensor:
    """(N, D) sines and cosines of the position (Vaswani et al. 2017, Sec. 3.5)."""
    import torch

    half = (width + 1) // 2
    rates = 10000.0 ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(length, dtype=torch.float32)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[:, :width]
