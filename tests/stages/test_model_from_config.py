"""model.from_config: random weights from settings and a seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kpod.runner import LocalFile, SettingError, StageError
from kpod.stages._lm.artifact import ModelFiles, ModelSpec, read_spec
from kpod.stages._lm.loading import load_causal_lm, load_tokenizer
from kpod.stages.model.from_config import Config, FromConfig
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model, tiny_words

TINY = Config(width=16, layers=1, heads=2, ff_width=24, max_positions=32, words=str(tiny_words()))


def _made(root: Path, config: Config, *, seed: int = 0) -> Path:
    ctx = FakeContext(config=config, sources={"words": tiny_words()}, seed=seed, root=root)
    FromConfig().run(ctx)
    return ctx.folders["model"]


def _spec(root: Path, config: Config, *, seed: int = 0) -> ModelSpec:
    return read_spec(_made(root, config, seed=seed))


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
def test_the_same_settings_and_seed_make_the_same_bytes(tmp_path: Path, architecture: str) -> None:
    config = replace(TINY, architecture=architecture)  # type: ignore[arg-type]

    one, two = _made(tmp_path / "one", config), _made(tmp_path / "two", config)

    assert {p.name: p.read_bytes() for p in one.iterdir()} == {
        p.name: p.read_bytes() for p in two.iterdir()
    }


def test_nothing_of_the_library_that_made_a_model_stands_in_its_files(tmp_path: Path) -> None:
    import transformers

    folder = _made(tmp_path, TINY)

    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    assert [name for name in texts if transformers.__version__ in texts[name]] == []
    assert "transformers_version" not in texts["config.json"] + texts["generation_config.json"]


def test_another_seed_changes_the_weights_and_nothing_else(tmp_path: Path) -> None:
    one, two = _spec(tmp_path / "one", TINY), _spec(tmp_path / "two", TINY, seed=1)

    assert {name for name in one.files if one.files[name] != two.files[name]} == {
        "model.safetensors"
    }


def test_torchs_own_generator_is_left_where_it_was(tmp_path: Path) -> None:
    import torch

    before = torch.random.get_rng_state()
    _made(tmp_path, TINY)

    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_quickstart_shape_has_the_size_it_was_tried_with(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n".join(f"w{number}" for number in range(159)))
    ctx = FakeContext(
        config=Config(words=str(words), precision="bf16"), sources={"words": words}, root=tmp_path
    )
    FromConfig().run(ctx)

    spec = read_spec(ctx.folders["model"])

    # Issue 1, 7: width 96, 2 layers, 4 heads, ff 256, tied, 162 tokens: 239k parameters, 0.5 MB in bf16.
    assert (spec.vocab_size, round(spec.num_parameters / 1000), spec.precision) == (
        162,
        237,
        "bf16",
    )


def test_settings_reach_the_model(tmp_path: Path) -> None:
    config = replace(TINY, tie_embeddings=False, kv_heads=1, init_range=0.5)
    folder = _made(tmp_path, config)

    model = load_causal_lm(
        ModelFiles(folder, None, read_spec(folder), "x"), precision="fp32", device="cpu"
    )

    assert (model.config.num_key_value_heads, model.config.tie_word_embeddings) == (1, False)
    assert model.config.max_position_embeddings == 32
    # 158 x 16 normal draws: the sample deviation is within 5 % of the setting.
    assert model.get_input_embeddings().weight.std().item() == pytest.approx(0.5, rel=0.05)


def test_a_tokenizer_of_another_model_can_be_used(tmp_path: Path) -> None:
    config = replace(TINY, words=None, tokenizer=str(tiny_model()))
    ctx = FakeContext(config=config, sources={"tokenizer": tiny_model()}, root=tmp_path)
    FromConfig().run(ctx)
    folder = ctx.folders["model"]

    tokenizer = load_tokenizer(ModelFiles(folder, None, read_spec(folder), "x"))

    assert tokenizer.tokenize("Q: Tom has 3 apples.") == ["Q:", "Tom", "has", "3", "apples", "."]
    assert FromConfig.sources(config) == {"tokenizer": LocalFile(str(tiny_model()))}


def test_an_empty_word_list_is_refused(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\n \n")

    with pytest.raises(
        StageError, match=r"words\.txt: no word in it; write one word or sign a line"
    ):
        FromConfig().run(FakeContext(config=TINY, sources={"words": words}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": None}, "words: got neither words nor tokenizer; give exactly one of the two"),
        ({"tokenizer": "x"}, "words: got both words and tokenizer; give exactly one of the two"),
        ({"width": 18, "heads": 4}, "width: got 18, which is no multiple of twice the 4 heads"),
        ({"kv_heads": 3}, "kv_heads: got 3, which does not divide the 2 heads"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    change: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        replace(TINY, **change)  # type: ignore[arg-type]
