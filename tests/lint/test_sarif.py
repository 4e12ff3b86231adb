"""The parts of SARIF 2.1.0 that code review reads, and that no name of a model gets out of its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint
from harness.lint.sarif import Looked, sarif
from tests.arrays import normal

_TEXT = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
NEEDED: dict[str, Any] = {
    "type": "object",
    "required": ["$schema", "version", "runs"],
    "additionalProperties": False,
    "properties": {
        "$schema": {"type": "string", "format": "uri"},
        "version": {"const": "2.1.0"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool", "results"],
                "properties": {
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name", "rules"],
                                "properties": {
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {
                                            "type": "object",
                                            "required": ["id", "shortDescription", "fullDescription", "help"],
                                            "properties": {
                                                "shortDescription": _TEXT,
                                                "fullDescription": _TEXT,
                                                "help": _TEXT,
                                                "helpUri": {"type": "string", "pattern": "^https://"},
                                                "defaultConfiguration": {"properties": {"level": _LEVEL}},
                                            },
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["ruleId", "ruleIndex", "level", "message", "locations", "partialFingerprints"],
                            "properties": {
                                "level": _LEVEL,
                                "message": _TEXT,
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation", "logicalLocations"],
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "artifactLocation": {"type": "object", "required": ["uri"]},
                                                    "region": {"properties": {"startLine": {"minimum": 1}}},
                                                },
                                            }
                                        },
                                    },
                                },
                                "partialFingerprints": {"type": "object", "minProperties": 1},
                            },
                        },
                    },
                },
            },
        },
    },
}


def added(name: str = "pos", before: int = 0) -> Model:
    """x plus a constant, behind some ops."""
    graph = GraphBuilder()
    x = graph.input("x", (4, 8))
    for _ in range(before):
        x = graph.unary("RELU", x)
    graph.output(graph.binary("ADD", x, graph.constant(normal((4, 8)), name), name="sum"), "y")
    return graph.build()


def told(model: Model, path: Path = Path("models/a b.tflite"), target: str = "host@2.3.0") -> dict[str, Any]:
    document = json.loads(json.dumps(sarif([Looked(path, lint(model, target_of(target)))])))
    Draft202012Validator(NEEDED).validate(document)
    run: dict[str, Any] = document["runs"][0]
    return run


def test_a_finding_has_a_rule_a_place_and_a_sentence() -> None:
    run = told(added())
    (result,) = run["results"]
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["id"] == result["ruleId"] == "low-rank-constant" and result["ruleIndex"] == 0
    assert rule["helpUri"] == "https://github.com/google-ai-edge/LiteRT/issues/8619"
    assert result["level"] == "error"
    assert result["message"]["text"].startswith("ADD #0 (wrong, without a word, ai-edge-litert 2.3.0): The GPU reads")
    (place,) = result["locations"]
    assert place["physicalLocation"]["artifactLocation"] == {"uri": "models/a%20b.tflite", "uriBaseId": "SRCROOT"}
    assert place["logicalLocations"][0]["fullyQualifiedName"] == "serving_default/ADD #0"


def test_a_risk_is_a_warning_that_says_so() -> None:
    (result,) = told(added(), target="mali")["results"]
    assert result["level"] == "warning"
    assert "(at risk of being wrong, without a word, mali)" in result["message"]["text"]


def test_a_file_by_its_whole_path_is_an_address_of_its_own(tmp_path: Path) -> None:
    run = told(added(), tmp_path / "m.tflite")
    assert run["artifacts"][0]["location"] == {"uri": (tmp_path / "m.tflite").as_uri()}


def test_a_finding_is_the_same_where_ops_were_put_before_it_and_another_of_another_tensor() -> None:
    def fingerprint(model: Model) -> str:
        (result,) = told(model)["results"]
        return str(result["partialFingerprints"]["op/v1"])

    assert fingerprint(added()) == fingerprint(added(before=2))
    other = GraphBuilder()
    total = other.binary("ADD", other.input("x", (4, 8)), other.constant(normal((4, 8)), "pos"), name="more")
    other.output(total, "y")
    assert fingerprint(added()) != fingerprint(other.build())


def test_names_give_no_orders() -> None:
    text = json.dumps(told(added("\x1b[2J\u202e")), ensure_ascii=False)
    assert "\x1b" not in text and "\u202e" not in text


def test_what_could_not_be_read_is_a_notification() -> None:
    run = sarif([Looked(Path("a.tflite"), trouble="a.tflite is empty.")])["runs"][0]
    assert run["results"] == [] and run["invocations"][0]["executionSuccessful"] is False
    assert run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"] == "a.tflite is empty."
