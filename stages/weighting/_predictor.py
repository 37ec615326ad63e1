"""The answer predictor: a language model that reads the question and a masked prefix, and must give the answer (Eq. 5).

What it is shown of a rationale is m_j * Emb(r_j) + (1 - m_j) * e_mask: a masked token leaves nothing behind, and the mask
stays differentiable (KPOD 1, "Where to mask"). B rationales, N tokens, D width of the student, E width of the predictor,
G prefixes of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from kpod.stages.weighting import _layouts
from kpod.stages.weighting._items import Item
from kpod.stages.weighting._layouts import Layout

if TYPE_CHECKING:
    import torch

    from kpod.stages._lm.parts import Parts

MaskVector = Literal["learned", "zero"]
# Rounding of fp32 differs by 1e-6 between the two layouts; a mask that is not read differs by whole nats. bf16 keeps 3 digits.
_TOLERANCE_NATS = {"fp32": 1e-3, "bf16": 0.1}


class Predictor:
    """The model with what lies between the student's embeddings and its own.

    Args:
        parts: the model, taken apart; all its weights are trained.
        width: of the student's embedding.
        is_copy: whether the model is a copy of the student, so that its vectors are the student's own.
        mask_vector: what stands for a masked token: a vector that is learned, or zero.
        typical_size: root mean square of the student's table: the size of the learned vector at the start.
        seed: of the projection and of the learned vector.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        width: int,
        is_copy: bool,
        mask_vector: MaskVector,
        typical_size: float,
        seed: int,
    ) -> None:
        import torch

        self.parts = parts
        self.is_packed = parts.encoder is None
        own = parts.inner.get_input_embeddings().weight
        generator = torch.Generator().manual_seed(seed)
        self._bridge: dict[str, torch.Tensor] = {}
        if not is_copy:
            # Rows of the student arrive in the size of the predictor's own.
            gain = float(own.detach().float().square().mean().sqrt()) / typical_size
            matrix = torch.randn(own.shape[1], width, generator=generator) * (gain / width**0.5)
            self._bridge["projection"] = matrix.to(parts.device).requires_grad_()
        if mask_vector == "learned":
            size = float(own.detach().float().square().mean().sqrt())
            vector = torch.randn(own.shape[1], generator=generator) * size
            self._bridge["mask_vector"] = vector.to(parts.device).requires_grad_()

    @property
    def parameters(self) -> dict[str, torch.Tensor]:
        """The trained tensors, by name."""
        return {f"model.{name}": value for name, value in self.parts.model.named_parameters()} | {
            f"bridge.{name}": value for name, value in self._bridge.items()
        }

    def show(self, vectors_BND: torch.Tensor, keep_BN: torch.Tensor) -> torch.Tensor:
        """(B, N, E) what is seen of the rationales' tokens: themselves where kept, the mask vector where not."""
        import torch.nn.functional as F  # noqa: N812 - the name everybody knows

        projection = self._bridge.get("projection")
        seen_BNE = vectors_BND if projection is None else F.linear(vectors_BND, projection)
        seen_BNE = seen_BNE * keep_BN[..., None]
        masked = self._bridge.get("mask_vector")
        return seen_BNE if masked is None else seen_BNE + (1 - keep_BN)[..., None] * masked

    def answer_nats(
        self, items: Sequence[Item], seen_BNE: torch.Tensor, prefixes: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Negative log-likelihood of the answer after each prefix.

        Args:
            items: B of them.
            seen_BNE: of `show`.
            prefixes: lengths of each item's prefixes.

        Returns:
            (G,) float32, nats summed over the answer's tokens; prefixes in order of items.

        Source: Eq. 5, inner sum.
        """
        return self._nats(self.layout(items, prefixes, width=seen_BNE.shape[1]), seen_BNE)

    def layout(
        self, items: Sequence[Item], prefixes: Sequence[Sequence[int]], *, width: int
    ) -> Layout:
        """The rows of a batch, packed where the model can read them so."""
        device, encoder = self.parts.device, self.parts.encoder
        if self.is_packed:
            return _layouts.packed(items, prefixes, width=width, device=device)
        return _layouts.separate(items, prefixes, width=width, device=device, encoder=encoder)

    def choose_layout(self, item: Item, seen_1NE: torch.Tensor) -> bool:
        """Keep packed rows only if they give what separate ones give, tried on one rationale; returns whether they do."""
        import torch

        if not self.is_packed:
            return False
        ks = [sorted({1, (item.num_tokens + 1) // 2, item.num_tokens})]
        with torch.no_grad():
            together = self.answer_nats([item], seen_1NE, ks)
            self.is_packed = False
            apart = self.answer_nats([item], seen_1NE, ks)
        close = _TOLERANCE_NATS[self.parts.precision]
        self.is_packed = bool(torch.allclose(together, apart, rtol=0.01, atol=close))
        return self.is_packed

    def _nats(self, layout: Layout, seen_BNE: torch.Tensor) -> torch.Tensor:
        import torch
        import torch.nn.functional as F  # noqa: N812

        parts, targets = self.parts, layout.targets
        with torch.autocast(
            parts.device.type, dtype=torch.bfloat16, enabled=parts.precision == "bf16"
        ):
            own_UE = parts.inner.get_input_embeddings()(layout.token_ids)
            pool_PE = torch.cat([seen_BNE.flatten(0, 1).to(own_UE.dtype), own_UE])
            vectors_RTE = F.embedding(layout.pool, pool_PE)
            states_RTE = self._states(layout, vectors_RTE)
            hidden_NE = states_RTE.flatten(0, 1).index_select(0, targets.positions)
            logits_NV = parts.head(hidden_NE)
        nats_N = F.cross_entropy(logits_NV.float(), targets.ids, reduction="none")
        num_prefixes = int(targets.owners[-1]) + 1
        return nats_N.new_zeros(num_prefixes).index_add(0, targets.owners, nats_N)

    def _states(self, layout: Layout, vectors_RTE: torch.Tensor) -> torch.Tensor:
        """Last hidden states of the decoder."""
        import torch

        inner = self.parts.inner
        if layout.decoder_ids is not None:
            encoded_RTE = inner.get_encoder()(
                inputs_embeds=vectors_RTE, attention_mask=layout.allowed
            )[0]
            return inner.get_decoder()(  # type: ignore[no-any-return]
                input_ids=layout.decoder_ids, encoder_hidden_states=encoded_RTE,
                encoder_attention_mask=layout.allowed, use_cache=False,
            )[0]  # fmt: skip
        if layout.allowed is None:
            return inner.get_decoder()(inputs_embeds=vectors_RTE, use_cache=False)[0]  # type: ignore[no-any-return]
        # Added to the scores: every attention of transformers reads a float mask, not every one a bool mask.
        least = torch.finfo(vectors_RTE.dtype).min
        mask = torch.zeros_like(layout.allowed, dtype=vectors_RTE.dtype)
        mask = mask.masked_fill(~layout.allowed, least)
        return inner.get_decoder()(  # type: ignore[no-any-return]
            inputs_embeds=vectors_RTE, attention_mask=mask, position_ids=layout.places, use_cache=False
        )[0]  # fmt: skip
