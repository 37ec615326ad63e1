"""JSON Schemas of recipes and stages: what is committed, what editors read and what validates, one and the same."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from kpod.runner.registry import STAGES, AnyStage, find_stage
from kpod.runner.schema import config_schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ID = r"^[a-z][a-z0-9_]*$"


@cache
def recipe_schema() -> dict[str, Any]:
    """The schema of everything in a recipe but the settings of its stages."""
    placement = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "device": {"enum": ["auto", "cpu", "cuda"], "description": "Where tensors live."},
            "threads": {
                "type": ["integer", "null"],
                "minimum": 1,
                "description": "CPU threads for tensor work, in each process.",
            },
            "processes": {
                "type": "integer",
                "minimum": 1,
                "description": "Processes that run the stage together, for stages that can be split (students).",
            },
            "accelerate": {
                "type": ["string", "null"],
                "description": "An accelerate config file that says how they are started.",
            },
        },
    }
    source = {"type": "string", "description": "A stage's id, or id.output."}
    stage = {
        "type": "object",
        "additionalProperties": False,
        "required": ["uses"],
        "properties": {
            "uses": {"type": "string", "description": "The name of a stage: kind.method."},
            "in": {
                "type": "object",
                "description": "Where inputs come from; a required input that is in no doubt may be left out.",
                "additionalProperties": {
                    "anyOf": [source, {"type": "array", "items": source, "minItems": 1}]
                },
            },
            "with": {"type": "object", "description": "Settings of the stage."},
        },
    }
    return {
        "$schema": DIALECT,
        "title": "kpod recipe",
        "description": "A graph of stages that distils step-by-step reasoning from a teacher into a student.",
        "type": "object",
        "additionalProperties": False,
        "required": ["kpod", "name", "stages"],
        "properties": {
            "kpod": {"const": 1, "description": "Version of the recipe language."},
            "name": {"type": "string", "pattern": r"^[A-Za-z0-9][A-Za-z0-9_-]*$", "x-pattern-says": "letters, digits, _ and -, the first a letter or a digit", "description": "Names the runs: letters, digits, _ and -."},
            "description": {"type": "string", "description": "What the recipe is for."},
            "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1, "description": "From which the seeds of weighting, clustering, curriculum and students are derived."},
            "stages": {"type": "object", "minProperties": 1, "propertyNames": {"pattern": _ID, "x-pattern-says": "small letters, digits and _, the first a letter"}, "additionalProperties": stage, "description": "The stages by id; their order never matters."},
            "compare": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"primary": {"type": "array", "items": {"type": "string"}, "minItems": 2, "description": "The arms that the recipe is about, the baseline first."}},
            },
            "placement": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"default": placement, "stages": {"type": "object", "additionalProperties": placement}},
            },
        },
    }  # fmt: skip


def stage_schema(stage: AnyStage) -> dict[str, Any]:
    """The schema of a stage's settings, made from its Config."""
    first_line = (stage.__doc__ or "").strip().partition("\n")[0]
    return config_schema(stage.config_class, title=stage.uses, description=first_line)


def load_schema(stage: AnyStage) -> dict[str, Any]:
    """The committed schema of a built-in stage (a contract test holds it equal to `stage_schema`); made for a plug-in."""
    path = schema_folder() / f"{stage.uses}.schema.json"
    if stage.uses in STAGES and path.exists():
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return loaded
    return stage_schema(stage)


def schema_folder() -> Path:
    """Where the committed schemas lie."""
    from importlib.util import find_spec

    spec = find_spec("kpod.schemas")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def editor_schema() -> dict[str, Any]:
    """`recipe.schema.json`: the recipe's schema before composition (extends, like), with every stage's settings referenced."""
    schema: dict[str, Any] = json.loads(json.dumps(recipe_schema()))
    schema["required"] = []
    schema["properties"]["extends"] = {
        "type": ["array", "string"],
        "items": {"type": "string"},
        "description": "Recipes that this one changes, by path or by the bare name of one that ships with kpod: maps merge deep, lists replace, null deletes.",
    }
    stage = schema["properties"]["stages"]["additionalProperties"]
    stage["required"] = []
    stage["type"] = ["object", "null"]
    stage["properties"]["like"] = {
        "type": "string",
        "description": "Another stage of this recipe that this one changes.",
    }
    stage["properties"]["uses"]["enum"] = sorted(STAGES)
    stage["properties"]["in"]["additionalProperties"]["anyOf"].append({"type": "null"})
    stage["allOf"] = [
        {
            "if": {"properties": {"uses": {"const": uses}}, "required": ["uses"]},
            "then": {"properties": {"with": {"$ref": f"{uses}.schema.json"}}},
        }
        for uses in sorted(STAGES)
    ]
    return schema


def all_schemas() -> dict[str, dict[str, Any]]:
    """Every committed schema by file name."""
    schemas = {f"{uses}.schema.json": stage_schema(find_stage(uses)) for uses in sorted(STAGES)}
    return {**schemas, "recipe.schema.json": editor_schema()}
