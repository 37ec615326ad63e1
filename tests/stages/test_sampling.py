"""How a token is chosen, and samples that no batch changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpod.runner import SettingError
from kpod.stages._lm.decoding import Decoding, check_sampling, sampled_tokens
from tests.stages.tiny_texts import requests_of, store_at, texts_of


def test_a_sample_does_not_depend_on_its_batch_and_samples_differ(tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=12, temperature=1.0, top_p=0.95, seed=3)
    with store_at(tmp_path, "a") as store:
        together = texts_of(store, requests_of(samples=3), decoding=decoding)
    with store_at(tmp_path, "b") as store:
        alone = [
            texts_of(store, [request], decoding=decoding)[0]
            for request in reversed(requests_of(samples=3))
        ]

    assert alone[::-1] == together
    assert len({text.text for text in together}) == len(together)


def test_sampled_frequencies_are_the_probabilities() -> None:
    chance_V = torch.tensor([0.5, 0.3, 0.15, 0.05])
    uniform_B = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    logits_BV = chance_V.log().expand(len(uniform_B), -1)

    share = sampled_tokens(logits_BV, uniform_B, temperature=1.0, top_p=1.0).bincount(
        minlength=4
    ) / len(uniform_B)
    nucleus = sampled_tokens(logits_BV, uniform_B, temperature=1.0, top_p=0.8).bincount(
        minlength=4
    ) / len(uniform_B)

    # 10,000 evenly spaced draws: a share is right to two of them.
    assert torch.allclose(share, chance_V, atol=2e-4)
    assert torch.allclose(nucleus, torch.tensor([0.625, 0.375, 0.0, 0.0]), atol=2e-4)


@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=12),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.05, 5),
    st.floats(0.01, 1),
)
def test_sampling_always_gives_a_token_of_the_nucleus(
    logits: list[float], uniform: float, temperature: float, top_p: float
) -> None:
    logits_BV = torch.tensor([logits])

    token = int(
        sampled_tokens(
            logits_BV,
            torch.tensor([uniform], dtype=torch.float64),
            temperature=temperature,
            top_p=top_p,
        )
    )

    chance = (logits_BV / temperature).softmax(-1).double()[0]
    likelier = chance[chance > chance[token]].sum().item()
    # All that is likelier is less than top_p, else the token was not needed; 1e-6 for the rounding of the sums.
    assert likelier < top_p + 1e-6


def test_greedy_samples_and_a_greedy_top_p_are_refused() -> None:
    with pytest.raises(
        SettingError, match="samples: got 4 at temperature 0, where all samples are the same text"
    ):
        check_sampling(temperature=0, top_p=1, samples=4)
    with pytest.raises(
        SettingError, match=r"top_p: got 0\.9 at temperature 0, where it has no effect"
    ):
        check_sampling(temperature=0, top_p=0.9, samples=1)
