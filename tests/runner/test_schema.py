"""JSON Schema made from Config dataclasses, the help made from them, and what a person is told about wrong values."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator

from kpod.runner import Doc, Ge, Gt, Le, LocalPath, Lt, MinItems, Pattern, RecipeError, Volatile
from kpod.runner.document import parse_document
from kpod.runner.schema import Setting, config_schema, describe, render_schema, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    rank: Annotated[int, Doc("LoRA rank, integer. Source: the paper."), Ge(1)] = 8
    targets: Annotated[tuple[str, ...], Doc("Layers."), MinItems(1)] = ("q", "v")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    path: Annotated[str, Doc("Where the rows lie."), LocalPath()]
    epochs: Annotated[int, Doc("Number of passes over the data."), Ge(1)] = 3
    rate: Annotated[float, Doc("Learning rate."), Gt(0), Lt(1)] = 1e-4
    precision: Annotated[Literal["auto", "fp32", "bf16"], Doc("Numbers of the student.")] = "auto"
    micro_batch: Annotated[int | Literal["auto"], Doc("Rows at once."), Ge(1)] = "auto"
    lora: Annotated[Lora | None, Doc("Adapter; null trains all weights.")] = Lora()
    key_env: Annotated[
        str | None, Doc("Variable."), Pattern("^[A-Z_]+$", "capital letters and _")
    ] = None
    is_logged: Annotated[bool, Doc("Write a log."), Volatile()] = False
    columns: Annotated[dict[str, str], Doc("Columns by role."), MinItems(1)]


SCHEMA = config_schema(Config, title="student.causal_lm", description="Train a student.")


def problems(text: str, schema: dict[str, Any] = SCHEMA) -> str:
    found = validate(
        parse_document(text, file="r.yaml"), schema, path="stages.s.with", subject="student.causal_lm"
    )  # fmt: skip
    return str(RecipeError(found)) if found else ""


def problem(text: str) -> str:
    return problems(f"path: x\ncolumns: {{a: b}}\n{text}").removesuffix(
        "\n1 error; nothing was run"
    )


def test_a_schema_says_all_that_the_dataclass_says() -> None:
    assert SCHEMA == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "student.causal_lm",
        "description": "Train a student.",
        "type": "object",
        "additionalProperties": False,
        "required": ["path", "columns"],
        "properties": {
            "path": {"type": "string", "description": "Where the rows lie.", "x-local-path": True},
            "epochs": {"type": "integer", "minimum": 1, "default": 3, "description": "Number of passes over the data."},
            "rate": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 1e-4, "description": "Learning rate."},
            "precision": {"enum": ["auto", "fp32", "bf16"], "default": "auto", "description": "Numbers of the student."},
            "micro_batch": {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto"]}], "default": "auto", "description": "Rows at once."},
            "lora": {
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {
                    "rank": {"type": "integer", "minimum": 1, "default": 8, "description": "LoRA rank, integer. Source: the paper."},
                    "targets": {"type": "array", "items": {"type": "string"}, "minItems": 1, "default": ["q", "v"], "description": "Layers."},
                },
                "default": {"rank": 8, "targets": ["q", "v"]},
                "description": "Adapter; null trains all weights.",
            },
            "key_env": {"type": ["string", "null"], "pattern": "^[A-Z_]+$", "x-pattern-says": "capital letters and _", "default": None, "description": "Variable."},
            "is_logged": {"type": "boolean", "default": False, "description": "Write a log.", "x-volatile": True},
            "columns": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1, "description": "Columns by role."},
        },
    }  # fmt: skip
    Draft202012Validator.check_schema(SCHEMA)


def test_a_rendered_schema_has_sorted_keys_two_spaces_and_a_newline() -> None:
    text = render_schema({"b": "é", "a": {"c": 1}})

    assert text == '{\n  "a": {\n    "c": 1\n  },\n  "b": "é"\n}\n'
    assert json.loads(render_schema(SCHEMA)) == SCHEMA


def test_all_problems_are_told_in_the_order_of_the_file() -> None:
    text = """
epochs: abc
precison: fp32
lora: {rank: -1, target: 3, targets: []}
columns: {a: 1}
"""

    expected = """\
r.yaml:2:1  stages.s.with.path
  setting 'path' is missing
  allowed: text
  path: Where the rows lie
r.yaml:2:9  stages.s.with.epochs
  got 'abc' (text), but epochs (Number of passes over the data) must be an integer
r.yaml:3:1  stages.s.with.precison
  unknown setting 'precison' for student.causal_lm
  allowed: columns, epochs, is_logged, key_env, lora, micro_batch, path, precision, rate
  did you mean 'precision'?
r.yaml:4:14  stages.s.with.lora.rank
  got -1, but lora.rank (LoRA rank, integer) must be >= 1
r.yaml:4:18  stages.s.with.lora.target
  unknown setting 'target' for lora of student.causal_lm
  allowed: rank, targets
  did you mean 'targets'?
r.yaml:4:38  stages.s.with.lora.targets
  got none, but lora.targets (Layers) must hold at least 1 item
r.yaml:5:14  stages.s.with.columns.a
  got 1, but columns.a must be text
  put it in quotes: '1'
7 errors; nothing was run"""
    assert expected == problems(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate: 1e5", "r.yaml:3:7  stages.s.with.rate\n  got 100000.0, but rate (Learning rate) must be < 1\n  allowed: > 0 and < 1"),
        ("rate: .nan", "r.yaml:3:7  stages.s.with.rate\n  got .nan, but rate (Learning rate) must be a finite number"),
        ("rate: -.inf", "r.yaml:3:7  stages.s.with.rate\n  got -.inf, but rate (Learning rate) must be a finite number"),
        ("rate: '0.1'", "r.yaml:3:7  stages.s.with.rate\n  got '0.1' (text), but rate (Learning rate) must be a number\n  write it without quotes"),
        ("epochs: true", "r.yaml:3:9  stages.s.with.epochs\n  got true, but epochs (Number of passes over the data) must be an integer"),
        ("epochs: 1.5", "r.yaml:3:9  stages.s.with.epochs\n  got 1.5, but epochs (Number of passes over the data) must be an integer"),
        ("epochs:", "r.yaml:3:8  stages.s.with.epochs\n  got null, but epochs (Number of passes over the data) must be an integer"),
        ("is_logged: yes", "r.yaml:3:12  stages.s.with.is_logged\n  got 'yes' (text), but is_logged (Write a log) must be true or false"),
        ("precision: fp23", "r.yaml:3:12  stages.s.with.precision\n  got 'fp23' (text), which is no value of precision (Numbers of the student)\n  allowed: auto, fp32, bf16\n  did you mean 'fp32'?"),
        ("precision: [x]", "r.yaml:3:12  stages.s.with.precision\n  got a list of 1, which is no value of precision (Numbers of the student)\n  allowed: auto, fp32, bf16"),
        ("micro_batch: 0", "r.yaml:3:14  stages.s.with.micro_batch\n  got 0, but micro_batch (Rows at once) must be >= 1"),
        ("micro_batch: many", "r.yaml:3:14  stages.s.with.micro_batch\n  got 'many' (text), but micro_batch (Rows at once) must be an integer >= 1, or auto"),
        ("lora: 5", "r.yaml:3:7  stages.s.with.lora\n  got 5, but lora (Adapter; null trains all weights) must be a mapping or null"),
        ("lora: {targets: [q, {}]}", "r.yaml:3:21  stages.s.with.lora.targets[1]\n  got an empty mapping, but lora.targets[1] must be text"),
        ("key_env: abc", "r.yaml:3:10  stages.s.with.key_env\n  got 'abc' (text), which is no value of key_env (Variable)\n  allowed: capital letters and _"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_told_with_place_meaning_and_what_is_allowed(text: str, said: str) -> None:
    assert said == problem(text)


@pytest.mark.parametrize(
    "text",
    ["epochs: 3.0", "rate: 0x0", "lora: null", "lora: {}", "key_env: ~", "micro_batch: auto"],
)
def test_a_right_value_is_accepted(text: str) -> None:
    assert problem(text) == ("" if text != "rate: 0x0" else "r.yaml:3:7  stages.s.with.rate\n  got 0, but rate (Learning rate) must be > 0\n  allowed: > 0 and < 1")  # fmt: skip


def test_settings_that_are_no_mapping_are_told() -> None:
    assert problems("[1, 2]").startswith(
        "r.yaml:1:1  stages.s.with\n  got a list of 2, but student.causal_lm must be a mapping\n"
    )


def test_hand_written_schemas_are_explained_too() -> None:
    schema = {
        "type": "object",
        "properties": {
            "version": {"const": 1},
            "ids": {"propertyNames": {"pattern": "^[a-z]+$", "x-pattern-says": "small letters"}},
            "in": {"additionalProperties": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}},
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 3, "description": "Names the runs."},
            "odd": {"multipleOf": 2},
        },
    }  # fmt: skip
    text = "version: 2\nids: {A b: 1}\nin: {a: [1], b: 3, c: []}\nname: Long\nodd: 3\n"

    expected = """\
r.yaml:1:10  stages.s.with.version
  got 2, which is no value of version
  allowed: 1
r.yaml:2:7  stages.s.with.ids.A b
  got the name 'A b'
  allowed: small letters
r.yaml:3:10  stages.s.with.in.a[0]
  got 1, but in.a[0] must be text
  put it in quotes: '1'
r.yaml:3:17  stages.s.with.in.b
  got 3, but in.b must be text, or a list
r.yaml:3:23  stages.s.with.in.c
  got none, but in.c must hold at least 1 item
r.yaml:4:7  stages.s.with.name
  got 'Long' (text), which is no value of name (Names the runs)
  allowed: text that matches ^[a-z]+$
r.yaml:4:7  stages.s.with.name
  got 4, but name (Names the runs) must hold at most 3 characters
r.yaml:5:6  stages.s.with.odd
  got 3, but for odd: 3 is not a multiple of 2
8 errors; nothing was run"""
    assert expected == problems(text, schema)


def test_help_lists_each_setting_and_those_inside_it() -> None:
    lines = {line.name: line for line in describe(Config)}

    assert [*lines] == [
        "path", "epochs", "rate", "precision", "micro_batch", "lora", "lora.rank", "lora.targets", "key_env", "is_logged", "columns",
    ]  # fmt: skip
    assert lines["path"] == Setting(
        name="path", type="text", default="", is_required=True, doc="Where the rows lie.", allowed=""
    )  # fmt: skip
    facts = {name: (line.type, line.default, line.allowed) for name, line in lines.items()}
    assert facts["rate"] == ("number", "0.0001", "> 0, < 1")
    assert facts["precision"] == ("choice", "auto", "auto, fp32, bf16")
    assert facts["micro_batch"] == ("integer or choice", "auto", ">= 1; auto")
    assert facts["lora"] == ("settings or null", '{"rank": 8, "targets": ["q", "v"]}', "")
    assert facts["lora.targets"] == ("list of text", '["q", "v"]', "at least 1")
    assert facts["key_env"] == ("text or null", "null", "capital letters and _")
    assert facts["columns"] == ("mapping of names to text", "", "at least 1")


def _config(hint: Any) -> type:
    @dataclass(frozen=True, kw_only=True)
    class Wrong:
        x: int

    Wrong.__annotations__["x"] = hint
    return Wrong


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        (set[str], r"Wrong\.x: a setting cannot be of type set\[str\]; allowed: bool, int"),
        (list[str], r"Wrong\.x: a setting cannot be of type list\[str\]"),
        (Any, r"a setting cannot be of type typing\.Any"),
        (tuple[int, int], r"a list of settings is written tuple\[X, \.\.\.\]"),
        (dict[int, str], "the keys of a mapping are text"),
        (int | tuple[int, ...], "only scalars can be alternatives of each other"),
        (Annotated[int, Volatile], r"write Volatile\(…\), not Volatile"),
        (Annotated[str, Ge(1)], r"Ge\(bound=1\) says nothing about a setting of kind str"),
        (Annotated[int, LocalPath()], r"LocalPath\(\) says nothing about a setting of kind int"),
        (Annotated[tuple[int, ...], Le(3)], "says nothing about a setting of kind list"),
    ],
)
def test_an_author_is_told_of_a_setting_that_recipes_cannot_express(hint: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        config_schema(_config(hint), title="t", description="d")
