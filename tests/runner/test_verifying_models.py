"""Models that were made again: tensors within the tolerance, other tensors, other shapes, other files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kpod.runner.verifying import _DivergedError, _folder_differences, _value_differences

Arrays = dict[str, np.ndarray]


def _model(folder: Path, tensors: Arrays, **more: str) -> Path:
    """A folder with a safetensors file, written by hand, and a model.json that names it by a digest."""
    folder.mkdir()
    header, body = {}, b""
    for name, values in tensors.items():
        data = values.astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + body)
    facts = {
        "files": {"model.safetensors": str(hash(body))},
        "width": 4,
        "base": "0123456789abcdef",
    }
    (folder / "model.json").write_text(json.dumps(facts | more), encoding="utf-8")
    return folder


W = np.linspace(-1, 1, 12).reshape(3, 4)


def test_tensors_within_the_tolerance_are_numerically_equal(tmp_path: Path) -> None:
    old = _model(tmp_path / "old", {"w": W, "b": W[0]})
    new = _model(tmp_path / "new", {"w": W * (1 + 3e-5), "b": W[0]})

    found = list(_folder_differences(old, new, {}))

    assert 1e-6 < max(found) < 1e-4


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"w": W + np.eye(3, 4)}, r"model\.safetensors, w\[\d, \d\]: "),
        ({"w": W.T}, r"w: shape \(3, 4\) -> \(4, 3\)"),
        ({"v": W}, "other tensors: v, w"),
    ],
)
def test_the_first_tensor_that_differs_is_named(tensors: Arrays, said: str, tmp_path: Path) -> None:
    old, new = _model(tmp_path / "old", {"w": W}), _model(tmp_path / "new", tensors)

    with pytest.raises(_DivergedError, match=said):
        list(_folder_differences(old, new, {}))


def test_a_file_that_is_gone_new_or_changed_is_named(tmp_path: Path) -> None:
    old, new = _model(tmp_path / "old", {"w": W}), _model(tmp_path / "new", {"w": W})
    assert list(_folder_differences(old, new, {})) == []

    (new / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(_DivergedError, match=r"tokenizer\.json is only in the new run"):
        list(_folder_differences(old, new, {}))
    (old / "tokenizer.json").write_text("[]", encoding="utf-8")
    with pytest.raises(_DivergedError, match=r"tokenizer\.json: other bytes"):
        list(_folder_differences(old, new, {}))
    (new / "tokenizer.json").unlink()
    with pytest.raises(_DivergedError, match=r"tokenizer\.json is only in the archived run"):
        list(_folder_differences(old, new, {}))


def test_a_model_may_name_a_base_that_is_numerically_equal(tmp_path: Path) -> None:
    old = _model(tmp_path / "old", {"w": W})
    new = _model(tmp_path / "new", {"w": W}, base="fedcba9876543210")

    aliases = {"0123456789abcdef" * 4: "fedcba9876543210" * 4}
    assert list(_folder_differences(old, new, aliases)) == []
    with pytest.raises(_DivergedError, match=r"model\.json, base: "):
        list(_folder_differences(old, new, {}))


@pytest.mark.parametrize(
    ("left", "right"), [([1, 2], [1]), ({"a": 1}, {"a": 1.0, "b": 2}), ("x" * 200, "y"), (1, True)]
)
def test_what_is_no_float_must_be_the_same(left: object, right: object) -> None:
    if left == right:
        assert list(_value_differences(left, right, "here", {})) == []
        return
    with pytest.raises(_DivergedError, match="here"):
        list(_value_differences(left, right, "here", {}))
