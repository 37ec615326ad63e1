"""The engine on models with an encoder: the same promises as for causal ones, and the prompt is read once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kpod.runner import StageError
from kpod.runner.texts import GeneratedText, TextStore
from kpod.stages._lm.artifact import ModelFiles
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages._lm.decoding import Decoding, DecodingBatch, Row
from kpod.stages._lm.family import SEQ2SEQ_ARCHITECTURES, family
from kpod.stages._lm.generation import Request, generate_texts
from kpod.stages._lm.loading import Limits, load_lm, load_tokenizer
from kpod.stages._lm.prompts import encoder_ids
from kpod.stages._lm.quiet import quiet
from kpod.stages._lm.saving import save_model
from tests.stages.tiny_models import tiny_files

QUESTIONS = [
    "Q: Tom has 3 apples. A:",
    "Q: Anna has 12 pens and gets 7 more pens. How many pens does she have now? A:",
    "Q: There are 4 boxes with 5 books in each box. How many books are there? A: Let's think step by step.",
    "Tom",
    "Q: Tom eats 2 apples. A: The answer is",
    "7 + 8 =",
    "Q: Anna buys 9 books, gives 4 books and then gets 2 books. How many books does Anna have? A:",
    "How many",
    "(3 + 4) * 5 =",
]
END = 2
# Shapes of about width 32; the decoder is deeper than the encoder, so that a cache sized by the wrong one fails.
_SHAPES: dict[str, dict[str, Any]] = {
    "T5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 3, "num_heads": 4},
    "MT5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 3, "num_heads": 4},
    "UMT5": {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 3, "num_heads": 4},
    "Bart": {
        "d_model": 32, "encoder_layers": 1, "decoder_layers": 3, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
        "bos_token_id": 1, "forced_eos_token_id": None, "init_std": 0.5,
    },
}  # fmt: skip


class _CountingModel:
    """The model, with how often its encoder read, and the rows of every step."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.read: list[tuple[int, ...]] = []
        self.num_rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, **inputs: Any) -> Any:
        self.num_rows.append(len(inputs["decoder_input_ids"]))
        return self.model(**inputs)

    def get_encoder(self) -> Any:
        encoder = self.model.get_encoder()

        def counted(**inputs: Any) -> Any:
            self.read.append(tuple(inputs["input_ids"].shape))
            return encoder(**inputs)

        return counted


@cache
def _model() -> Any:
    return load_lm(tiny_files("t5"), precision="fp32", device="cpu")


@cache
def _tokenizer() -> Any:
    return load_tokenizer(tiny_files("t5"))


def _ids(text: str) -> tuple[int, ...]:
    return tuple(encoder_ids(_tokenizer(), _tokenizer()(text)["input_ids"]))


def _requests(samples: int = 1) -> list[Request]:
    return [
        Request(prompt_ids=_ids(text), sample=sample, asked_by=f"q{number}")
        for number, text in enumerate(QUESTIONS)
        for sample in range(samples)
    ]


def _texts(
    path: Path,
    requests: Sequence[Request],
    *,
    model: Any = None,
    batch_tokens: int = 100_000,
    decoding: Decoding | None = None,
    limits: Limits | None = None,
) -> list[GeneratedText]:
    store = TextStore(path)
    try:
        return generate_texts(
            lambda: model or _model(), _tokenizer(), requests, decoding or Decoding(max_new_tokens=24),
            limits=limits or Limits(frozenset({END}), None), batch_tokens=batch_tokens, store=store,
            model_facts={"model": "tiny", "precision": "fp32"}, on_progress=lambda _: None, family="seq2seq",
        )  # fmt: skip
    finally:
        store.close()


def _one_by_one(model: Any, request: Request, max_new_tokens: int) -> list[int]:
    """What transformers itself says to one prompt alone, without the start token and the end token."""
    ids = torch.tensor([request.prompt_ids])
    said = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_new_tokens,
        do_sample=False,
    )
    new: list[int] = said[0, 1:].tolist()
    return new[: new.index(END)] if END in new else new


def _without_cache(model: Any, request: Request, max_new_tokens: int) -> list[int]:
    """Greedy decoding in its plainest form: everything computed anew for every token.

    (transformers' own `generate` fails on a T5 whose decoder is deeper than its encoder: it sizes the cache by the encoder.)
    """
    ids, said = torch.tensor([request.prompt_ids]), [0]
    with torch.inference_mode():
        while len(said) <= max_new_tokens and said[-1] != END:
            out = model(input_ids=ids, decoder_input_ids=torch.tensor([said]), use_cache=False)
            said.append(int(out.logits[0, -1].argmax()))
    return said[1:-1] if said[-1] == END else said[1:]


def _decoded(model: Any, requests: Sequence[Request], *, max_new: int) -> list[list[int]]:
    """The new tokens of all requests as one batch, in their order."""
    rows = [Row(str(i), request.prompt_ids, max_new) for i, request in enumerate(requests)]
    batch = DecodingBatch(model, rows, Decoding(max_new_tokens=max_new), pad_id=0, end_ids=[END])
    found: dict[str, list[int]] = {}
    while batch.num_rows:
        found |= {row.name: row.ids for row in batch.step()}
    return [found[str(i)] for i in range(len(requests))]


@cache
def _other_model(kind: str, root: Path) -> Any:
    """A random model of another architecture, saved and loaded as a recipe's would be."""
    import transformers

    folder = root / kind
    folder.mkdir()
    shape = {
        "vocab_size": len(_tokenizer()), "pad_token_id": 0, "eos_token_id": END, "decoder_start_token_id": 0,
        **_SHAPES[kind],
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = getattr(transformers, f"{kind}Config")(**shape)
        save_model(getattr(transformers, f"{kind}ForConditionalGeneration")(config), folder)
    _tokenizer().save_pretrained(str(folder))
    files = ModelFiles(folder, None, checkpoint_spec(folder, is_pointer=False), kind)
    return load_lm(files, precision="fp32", device="cpu")


def test_greedy_texts_are_those_of_transformers_one_by_one_at_any_batch_size(
    tmp_path: Path,
) -> None:
    requests = _requests()
    budgets = {"alone": 1, "some": 120, "all": 100_000}

    found = {
        name: [text.text for text in _texts(tmp_path / name, requests, batch_tokens=budget)]
        for name, budget in budgets.items()
    }

    expected = [_tokenizer().decode(_one_by_one(_model(), request, 24)) for request in requests]
    assert found == dict.fromkeys(budgets, expected)
    assert len(set(expected)) == len(expected)


@pytest.mark.parametrize(
    "kind",
    ["T5", "Bart", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("MT5", "UMT5"))],
)
def test_every_architecture_of_the_family_says_what_it_says_without_batch_and_cache(
    tmp_path_factory: pytest.TempPathFactory, kind: str
) -> None:
    model = _other_model(kind, tmp_path_factory.mktemp("others"))
    requests = _requests()[:4]

    together = _decoded(model, requests, max_new=8)
    alone = [_decoded(model, [request], max_new=8)[0] for request in requests]

    assert f"{kind}ForConditionalGeneration" in SEQ2SEQ_ARCHITECTURES
    assert together == alone == [_without_cache(model, request, 8) for request in requests]
    assert len({tuple(ids) for ids in together}) > 1


@settings(max_examples=4, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(3, 150), min_size=1, max_size=20),
        min_size=2,
        max_size=8,
        unique_by=tuple,
    )
)
def test_a_text_does_not_depend_on_the_batch_it_is_in(prompts: list[list[int]]) -> None:
    requests = [Request(prompt_ids=(*prompt, END)) for prompt in prompts]

    together = _decoded(_model(), requests, max_new=5)

    assert together == [_decoded(_model(), [request], max_new=5)[0] for request in requests]


def test_the_encoder_reads_a_batch_once(tmp_path: Path) -> None:
    model = _CountingModel(_model())

    _texts(tmp_path / "t", _requests(), model=model, limits=Limits(frozenset(), None))

    longest = max(len(_ids(text)) for text in QUESTIONS)
    assert model.read == [(len(QUESTIONS), longest)]
    assert model.num_rows == [len(QUESTIONS)] * 24


def test_rows_that_ended_leave_the_batch_and_change_no_other(tmp_path: Path) -> None:
    model = _CountingModel(_model())
    whole = _texts(tmp_path / "a", _requests(), limits=Limits(frozenset(), None))
    token = _tokenizer()(whole[0].text)["input_ids"][3]

    cut = _texts(tmp_path / "b", _requests(), model=model, limits=Limits(frozenset({token}), None))

    written = [min(text.completion_tokens + (text.finish == "stop"), 24) for text in cut]
    assert sum(model.num_rows) == sum(written) < 24 * len(QUESTIONS)
    assert all(long.text.startswith(short.text) for long, short in zip(whole, cut, strict=True))


def test_a_sample_does_not_depend_on_its_batch_and_samples_differ(tmp_path: Path) -> None:
    decoding = Decoding(max_new_tokens=8, temperature=1.0, top_p=0.95, seed=3)

    requests = _requests(samples=2)[:8]
    together = _texts(tmp_path / "a", requests, decoding=decoding)
    alone = [
        _texts(tmp_path / "b", [request], decoding=decoding)[0] for request in reversed(requests)
    ]

    assert alone[::-1] == together
    assert len({text.text for text in together}) == len(together)


def test_the_prompt_takes_no_room_from_the_text_where_the_context_has_an_end(
    tmp_path: Path,
) -> None:
    request = _requests()[1]
    length = len(request.prompt_ids)

    (text,) = _texts(tmp_path / "t", [request], limits=Limits(frozenset(), length))

    assert text.completion_tokens == min(24, length)
    with pytest.raises(
        StageError,
        match=f"question q1: its prompt has {length} tokens, but the model's context holds {length - 1}",
    ):
        _texts(tmp_path / "u", [request], limits=Limits(frozenset(), length - 1))


def test_t5_reads_and_writes_beyond_the_length_it_was_trained_on(tmp_path: Path) -> None:
    request = Request(prompt_ids=(*range(3, 150), *range(3, 150), END), asked_by="long")

    (text,) = _texts(tmp_path / "t", [request], limits=Limits(frozenset(), None))

    assert len(request.prompt_ids) > _model().config.n_positions == 256
    assert text.completion_tokens == 24


def test_fused_attention_computes_what_plain_attention_does() -> None:
    from transformers import T5ForConditionalGeneration

    folder = str(tiny_files("t5").weights)
    with quiet():
        fused, plain = (
            T5ForConditionalGeneration.from_pretrained(
                folder, attn_implementation=kind, dtype=torch.float32
            ).eval()
            for kind in ("sdpa", "eager")
        )
    prompts = [_ids(text) for text in QUESTIONS[:4]]
    width = max(map(len, prompts))
    inputs = {
        "input_ids": torch.tensor([[*ids] + [0] * (width - len(ids)) for ids in prompts]),
        "attention_mask": torch.tensor(
            [[1] * len(ids) + [0] * (width - len(ids)) for ids in prompts]
        ),
        "decoder_input_ids": torch.tensor([[0, *range(5, 20)]] * 4),
    }

    with torch.inference_mode():
        logits, expected = fused(**inputs).logits, plain(**inputs).logits

    assert _model().config._attn_implementation == "sdpa"
    # Sums in another order: fp32 keeps seven digits, and the logits reach 20.
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()


def test_an_image_model_of_the_same_ending_is_not_taken_for_a_text_model() -> None:
    from dataclasses import replace

    spec = tiny_files("t5").spec

    assert family(spec) == "seq2seq"
    assert family(tiny_files("llama").spec) == "causal"
    with pytest.raises(
        StageError,
        match="architecture LlavaForConditionalGeneration is no language model that kpod knows\nallowed: one like Llama",
    ):
        family(replace(spec, architecture="LlavaForConditionalGeneration"))
