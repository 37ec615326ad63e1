"""Reading, changing and writing YAML: what is accepted, where values stand, and what a person is told."""

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kpod.runner import Position, RecipeError
from kpod.runner.document import (
    MAX_BYTES,
    Mapping,
    Node,
    Scalar,
    Sequence,
    dump,
    find,
    load_document,
    merge,
    parse_document,
    plain,
    set_value,
)

ODD_TEXTS = [
    "no", "on", "1e-5", "~", "", "0x10", "0o17", "012", ".inf", "1.", "-.5", "<<", "=", "null", "true", "1:20",
    "2001-01-01", "a: b", "- a", "# x", "a #b", "'", '"', "*a", "&a", "!x", "@x", "%x", "|", "...", "---", "? x",
    "a\nb", "a\nb\n", "\n", "a\n\n\n", "  a\nb", "a\n  b\n", "a \nb", "a\tb\n", "...\n", "a\n---\nb", "\u2028", "\x85",
    "\ufeff", "\0", "é ∑ 😀", "x" * 300, " a ",
]  # fmt: skip

texts = (
    st.sampled_from(ODD_TEXTS)
    | st.text("ab01.-+e:#'\"[]{}|>\n\t ~", max_size=12)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
scalars = (
    texts | st.integers(-(10**40), 10**40) | st.floats(allow_nan=False) | st.booleans() | st.none()
)
data = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def parsed(text: str) -> Node:
    return parse_document(text, file="r.yaml")


def refusal(text: str) -> str:
    with pytest.raises(RecipeError, match="nothing was run") as raised:
        parsed(text)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("1E+3", 1000.0), (".5", 0.5), ("-1.", -1.0), ("1.5", 1.5), ("012", 12), ("+7", 7), ("-0", 0),
        ("0o14", 12), ("0x1F", 31), ("-.inf", -math.inf), (".Inf", math.inf), ("true", True), ("FALSE", False),
        ("~", None), ("null", None), ("", None), ("no", "no"), ("on", "on"), ("yes", "yes"), ("y", "y"), ("1_000", "1_000"),
        ("1:30", "1:30"), ("2026-11-21", "2026-11-21"), ("0b1", "0b1"), ("nan", "nan"), ("tRUE", "tRUE"), ("1e", "1e"),
        ("'1'", "1"), ('"null"', "null"), ("١", "١"), ("-x", "-x"), ("0o8", "0o8"), ("-0x1", "-0x1"),
    ],
)  # fmt: skip
def test_scalars_mean_what_the_core_schema_of_yaml_1_2_says(text: str, value: Any) -> None:
    actual = plain(parsed(f"a: {text}"))["a"]

    assert value == actual
    assert type(value) is type(actual)


def test_not_a_number_is_read_as_such() -> None:
    assert math.isnan(plain(parsed("a: .nan"))["a"])


def test_values_and_keys_know_their_line_and_column_from_one() -> None:
    root = parsed("# a comment\nstages:\n  student: {epochs: 3,\n    targets: [q, v]}\n")
    assert isinstance(root, Mapping)
    student = find(root, ["stages", "student"])
    assert isinstance(student, Mapping)

    actual = {
        "root": root.position,
        "student": student.position,
        "epochs": find(student, ["epochs"]).position,  # type: ignore[union-attr]
        "targets key": student.entries["targets"].key_position,
        "v": find(student, ["targets", 1]).position,  # type: ignore[union-attr]
    }

    expected = {"root": (2, 1), "student": (3, 12), "epochs": (3, 21), "targets key": (4, 5), "v": (4, 18)}  # fmt: skip
    assert {name: Position("r.yaml", *place) for name, place in expected.items()} == actual


def test_all_that_breaks_a_rule_is_reported_at_once_each_with_its_place() -> None:
    text = "a: !!python/object:os.system x\n1: x\n<<: {b: 1}\na: 3\n? [x]\n: y\nc: {~: !foo 2}\n"

    expected = """\
r.yaml:1:4  a
  got the tag '!!python/object:os.system', but tags are not allowed
  leave it out
r.yaml:2:1
  got '1' as a key, which is not text
  write it in quotes: "1"
r.yaml:3:1
  merge keys ('<<') are not allowed
  use `extends: [base.yaml]` for a whole recipe and `like: ID` for a stage
r.yaml:4:1  a
  the key 'a' stands here twice
  it stands first at r.yaml:1:1
r.yaml:5:3
  got a list or mapping as a key
  allowed: text
r.yaml:7:5  c
  got '~' as a key, which is not text
  write it in quotes: "~"
r.yaml:7:8  c.?
  got the tag '!foo', but tags are not allowed
  leave it out
7 errors; nothing was run"""
    assert expected == refusal(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2\nb: 3", "r.yaml:1:4\n  this list is not closed, or a ',' is missing in it"),
        ("a: {b: 1\nc: 3", "r.yaml:1:4\n  this mapping is not closed, or a ',' is missing in it"),
        ("a: 'abc\nb: 1", "r.yaml:1:4\n  this quote is never closed"),
        ("a:\n\tb: 1", "r.yaml:2:1\n  a tab stands here, where YAML takes only spaces\n  indent with spaces"),
        ("a: @x", "r.yaml:1:4\n  a value cannot begin with '@' unless it is quoted\n  put it in quotes"),
        ("a: b: c", "r.yaml:1:5\n  a ':' stands where no key can be\n  text that holds ': ' needs quotes"),
        ("a: - b", "r.yaml:1:4\n  a '- ' stands where no list can begin\n  begin the list on a line of its own"),
        ("a: 1\nb\n", "r.yaml:2:1\n  a line is neither 'key: value' nor part of the text above it"),
        ("- a\nb: 1", "r.yaml:2:1\n  a line ends this list without standing in line with a key above it"),
        ("a:\n  b: 1\n c: 2", "r.yaml:3:2\n  this does not fit what stands above it"),
        ('a: "\\q"', "r.yaml:1:5\n  an unknown escape stands in a text in double quotes"),
        ("a: !e!x 1", "r.yaml:1:4\n  tags are not allowed"),
        ("a: *x", "r.yaml:1:4  a\n  the alias '*x' has no '&x' before it\n  text that begins with '*' needs quotes: '*x'"),
        ("a: &x [*x]", "r.yaml:1:8  a[0]\n  the alias '*x' stands inside what it refers to"),
        ("a: 1\n---\nb: 2", "r.yaml:2:1\n  a second document begins here\n  allowed: one document a file"),
        ("'a' b", "r.yaml:1:5\n  something follows after the end of the value"),
        ("%YAML 1.1\n---\na: no", "r.yaml:1:1\n  got %YAML 1.1\n  allowed: 1.2"),
        ("a\0b", "r.yaml:1:2\n  this is not a text file: it holds a NUL byte"),
        ("a: \x1b[0m", "r.yaml:1:4\n  this is not a text file: it holds the control character U+001B"),
        ("a: \ud800", "r.yaml:1:4\n  this is not a text file: it holds the control character U+D800"),
        ("", "r.yaml\n  the document is empty"),
        ("# nothing\n", "r.yaml\n  the document is empty"),
        ("null", "r.yaml\n  the document is empty"),
        ("a: " + "9" * 400, "r.yaml:1:4  a\n  got an integer of 400 digits\n  allowed: at most 300 digits"),
        ("9" * 400 + ": 1", "as a key, which is not text"),
    ],
)  # fmt: skip
def test_broken_text_is_explained_in_plain_words(text: str, said: str) -> None:
    assert said in refusal(text)


def test_an_alias_stands_for_what_was_written_before() -> None:
    root = parsed("base: &b {rank: 8}\nuse: [*b, *b]\nword: &w x\nagain: *w\n")

    assert plain(root) == {
        "base": {"rank": 8},
        "use": [{"rank": 8}, {"rank": 8}],
        "word": "x",
        "again": "x",
    }


def test_an_alias_bomb_is_refused_without_being_expanded() -> None:
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9)}]" for i in range(1, 30)]

    said = refusal("\n".join(lines))

    assert (
        "r.yaml:6:10  l5[0]\n  with its aliases written out this holds more than 100,000 values"
        in said
    )


@pytest.mark.parametrize(
    "text",
    ["[" * 101 + "]" * 101, "[" * 500_000, "- " * 101, "a: &a " + "[" * 60 + "]" * 60 + "\nb: " + "[" * 60 + "*a" + "]" * 60],
    ids=["closed", "open", "block", "alias"],
)  # fmt: skip
def test_nesting_deeper_than_a_hundred_levels_is_refused(text: str) -> None:
    assert "nested deeper than 100 levels" in refusal(text)


def test_a_hundred_levels_are_read() -> None:
    assert isinstance(parsed("[" * 99 + "x" + "]" * 99), Sequence)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=40) | st.text("ab:-[]{}&*!|>%@`'\"#?,\n\t 1.~<", max_size=40))
@example("a: b\ufeff")
@example("? *a\n: b")
def test_any_text_is_either_read_or_refused_as_a_recipe_error(text: str) -> None:
    for read in (parsed, lambda text: set_value(parsed("a: 1"), "a", text)):
        with contextlib.suppress(RecipeError):
            read(text)


@settings(max_examples=200, deadline=None)
@given(data)
def test_what_is_dumped_reads_back_equal(value: Any) -> None:
    text = dump({"value": value, "last": value})

    assert repr({"value": value, "last": value}) == repr(plain(parsed(text)))


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_text_survives_as_value_and_as_key(text: str) -> None:
    assert {text: [text], "end": text} == plain(parsed(dump({text: [text], "end": text})))


def test_dumped_text_is_fit_for_people() -> None:
    value = {
        "name": "no", "rate": 1e-5, "is_fast": True, "none": None, "targets": ("q", "v"),
        "prompt": "Q: {question}\nA:\n", "empty": {}, "list": [],
    }  # fmt: skip

    expected = """\
name: 'no'
rate: 1.0e-05
is_fast: true
none: null
targets:
- q
- v
prompt: |
  Q: {question}
  A:
empty: {}
list: []
"""
    assert expected == dump(value)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(texts, data, max_size=3), st.dictionaries(texts, data, max_size=3))
def test_merging_agrees_with_its_definition_on_plain_data(
    base: dict[str, Any], over: dict[str, Any]
) -> None:
    def expected(below: Any, above: Any) -> Any:
        if not isinstance(above, dict):
            return above
        result = dict(below) if isinstance(below, dict) else {}
        for key, value in above.items():
            if value is None:
                result.pop(key, None)
            else:
                result[key] = expected(result.get(key), value)
        return result

    def node(value: dict[str, Any]) -> Node:
        return parsed(dump(value))

    assert repr(expected(base, over)) == repr(plain(merge(node(base), node(over))))


def test_merged_values_remember_the_file_that_wrote_them() -> None:
    base = parse_document("with: {rank: 8, epochs: 3, seed: 1}\nin: [a]", file="base.yaml")
    over = parse_document("\nwith: {epochs: 5, seed: null}\nin: [b, c]", file="own.yaml")

    merged = merge(base, over)

    assert plain(merged) == {"with": {"rank": 8, "epochs": 5}, "in": ["b", "c"]}
    places = {
        name: str(find(merged, path).position)  # type: ignore[union-attr]
        for name, path in {"rank": ["with", "rank"], "epochs": ["with", "epochs"], "in": ["in"]}.items()
    }  # fmt: skip
    assert places == {"rank": "base.yaml:1:14", "epochs": "own.yaml:2:16", "in": "own.yaml:3:5"}
    assert plain(base) == {"with": {"rank": 8, "epochs": 3, "seed": 1}, "in": ["a"]}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("1e-5", 1e-5), ("no", "no"), ("", None), ("null", None), ("'1'", "1"), ("[a, 2]", ["a", 2]), ("{a: {b: 1}}", {"a": {"b": 1}}),
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"), ("http://localhost:8000/v1", "http://localhost:8000/v1"), ("a b", "a b"),
    ],
)  # fmt: skip
def test_a_set_value_is_one_yaml_value(setting: str, value: Any) -> None:
    changed = set_value(parsed("a: {b: 1, c: 2}"), "a.b", setting)

    assert plain(changed) == {"a": {"b": value, "c": 2}}


def test_a_set_value_makes_missing_mappings_and_says_that_it_was_set() -> None:
    before = parsed("a: 1\nempty:\n")

    after = set_value(set_value(before, "stages.x.with", "{rate: 1e-5}"), "empty.b", "2")

    assert plain(after) == {"a": 1, "empty": {"b": 2}, "stages": {"x": {"with": {"rate": 1e-5}}}}
    rate = find(after, ["stages", "x", "with", "rate"])
    assert rate == Scalar(1e-5, Position("--set"))
    assert plain(before) == {"a": 1, "empty": None}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("a..b", "1", "--set\n  got 'a..b', which is no dotted name\n  allowed: a=value, a.b=value"),
        ("", "1", "got '', which is no dotted name"),
        ("name.x", "1", "--set  name.x\n  got 'name.x', but name is 'demo' (text) and has no 'x'\n  set the whole of it: name=…"),
        ("list.0", "1", "got 'list.0', but list is a list and has no '0'"),
        ("name", "a: b", "--set  name\n  got 'a: b', which is no value: it is neither a word nor closed in [ ] or { }\n  allowed: a word"),
        ("name", "- a", "it is neither a word nor closed"),
        ("name", "[a", "got '[a', which is no value: this list is not closed"),
        ("name", "@a", "a value cannot begin with '@' unless it is quoted"),
        ("name", "!!int 3", "got the tag '!!int', but tags are not allowed"),
    ],
)  # fmt: skip
def test_a_set_value_that_fits_nowhere_is_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(RecipeError, match="1 error; nothing was run") as raised:
        set_value(parsed("name: demo\nlist: [1]"), name, value)

    assert said in str(raised.value)


def load_refusal(path: Path) -> str:
    with pytest.raises(RecipeError, match="1 error; nothing was run") as raised:
        load_document(path, name="r.yaml")
    return str(raised.value)


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\r\n")

    root = load_document(path)

    assert plain(root) == {"a": "é"}
    assert root.position == Position(str(path), 1, 1)


def test_a_missing_file_is_told_with_the_nearest_name_beside_it(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").touch()
    (tmp_path / "svamp.yaml").touch()

    assert "r.yaml\n  there is no such file\n  did you mean 'quickstart.yaml'?" in load_refusal(tmp_path / "quickstrat.yaml")  # fmt: skip
    assert f"  in {tmp_path}: quickstart.yaml, svamp.yaml" in load_refusal(tmp_path / "x")
    assert f"  there is no folder {tmp_path / 'no'}" in load_refusal(tmp_path / "no" / "x.yaml")
    assert "there is no such file" in load_refusal(tmp_path / "svamp.yaml" / "x.yaml")


def test_what_is_no_readable_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "inside.yaml").touch()
    os.mkfifo(tmp_path / "pipe")

    assert f"this is a folder, not a file\n  in {tmp_path}: inside.yaml" in load_refusal(tmp_path)
    assert "this is not a regular file" in load_refusal(tmp_path / "pipe")
    assert "the file cannot be read: " in load_refusal(tmp_path / "nul\0")
    assert "the file cannot be read: file name too long" in load_refusal(tmp_path / ("x" * 300))


def test_bytes_that_are_not_utf_8_are_told_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes("name: x\ntext: é\xfc".encode("latin-1"))

    assert "r.yaml:2:7\n  the byte 0xe9 is not UTF-8\n  save the file as UTF-8" in load_refusal(
        path
    )


def test_a_recipe_of_50_megabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)

    said = load_refusal(path)

    assert (
        f"the file has 50,000,000 bytes, which is no recipe\n  allowed: at most {MAX_BYTES:,} bytes"
        in said
    )
