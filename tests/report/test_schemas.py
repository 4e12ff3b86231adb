"""Every document has a schema, and a schema refuses what is not that document."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from harness.cli.app import app
from harness.cli.commands import COMMANDS
from harness.core.errors import UsageError
from harness.numerics.metrics import METRICS
from harness.remedies.cause import Cause
from harness.report import schemas
from tests.documents import validator
from tests.report.examples import Examples

NAMES = schemas.names()
GPU = {
    "bench",
    "compare",
    "doctor",
    "dump",
    "export",
    "journal-line",
    "lint",
    "localize",
    "matrix",
    "report",
    "run-record",
    "runs",
}
# Keys that may be missing; every other one that a document has is always there.
OPTIONAL = {
    "dashboard": {"address"},
    "compare": {"runs", "rows", "on_cpu"},
    "dump": {"runs", "rows", "on_cpu"},
    "failure": {"trouble"},
    "journal-line": {"cut"},
    "lint": {"fix", "runs", "rows", "on_cpu"},
    "localize": {"runs", "rows", "on_cpu"},
    "matrix": {"fail", "pass"},
    "model-card": {"candidates"},
    "run-record": {"shader", "other_backend", "outputs", "resumable", "file_sha256"},
    "sam2-ablate": {"candidates"},
    "sam2-click": {"single_mask"},
    "sam2-fidelity": {"against"},
    "sam2-track": {"nonfinite"},
    "schema": {"content"},
}
# Objects whose keys are names that others give.
MAPS = {("audit", "ops"), ("chain", "inputs"), ("chain", "outputs"), ("run-record", "shapes"), ("sam2-fidelity", "ops")}
MAPS |= {("farm-run", "counts"), ("sam2-track", "objects"), ("run-record", "limits")}
FREE = {("schema", "content")}


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Examples:
    return Examples(tmp_path_factory.mktemp("documents"))


EACH = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.gpu) if n in GPU else n for n in NAMES])


Place = tuple[str, ...]


def objects(value: Any, name: str, place: Place = ()) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every object of a document, by the keys that lead to it. One whose keys are names that others give counts as a
    list."""
    if isinstance(value, list):
        for item in value:
            yield from objects(item, name, place)
    key = place[-1] if place else ""
    if isinstance(value, dict) and (name, key) not in FREE:
        yield place, value
        is_map = (name, key) in MAPS
        for inner, item in list(value.items()):
            yield from objects(item, name, (*place, "*" if is_map else inner))


def each_form(document: Any, name: str, *, maps: bool = False) -> list[dict[str, Any]]:
    """One object of each form at each place: of a thousand samples alike, the first. With `maps` those too whose keys
    are names that others give."""
    found: dict[Any, dict[str, Any]] = {}
    for place, held in objects(document, name):
        is_map = bool(place) and (name, place[-1]) in MAPS
        if maps or not is_map:
            form = None if is_map else tuple((key, type(value)) for key, value in held.items())
            found.setdefault((place, form), held)
    return list(found.values())


@EACH
def test_a_document_of_the_package_is_as_its_schema_says(examples: Examples, name: str) -> None:
    made = examples.of(name)
    assert made
    for document in made:
        assert [error.message for error in validator(name).iter_errors(document)] == []


@EACH
def test_a_key_that_nobody_described_is_refused(examples: Examples, name: str) -> None:
    for document in examples.of(name):
        for held in each_form(document, name, maps=True):
            held["unknown"] = {"unknown": None}
            assert not validator(name).is_valid(document), list(held)
            del held["unknown"]


@EACH
def test_a_key_that_is_missing_is_refused_unless_it_may_be(examples: Examples, name: str) -> None:
    missed: set[str] = set()
    for document in examples.of(name):
        for held in each_form(document, name):
            for key in list(held):
                value = held.pop(key)
                if validator(name).is_valid(document):
                    missed.add(key)
                held[key] = value
    assert missed <= OPTIONAL.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_is_one_and_stands_alone(name: str) -> None:
    whole = schemas.schema(name)
    Draft202012Validator.check_schema(whole)
    assert set(re.findall(r'"\$ref": "(.*?)"', json.dumps(whole))) <= {
        f"#/$defs/{part}{end}" for part in whole.get("$defs", ()) for end in ("", *VARIANT_WORDS)
    }


VARIANT_WORDS = ("/properties/layernorm", "/properties/reductions")


def described(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every property, by where it is."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if key == "properties":
            yield from ((f"{path}/{name}", found) for name, found in inner.items())
        yield from described(inner, f"{path}/{key}")
    for inner in value if isinstance(value, list) else ():
        yield from described(inner, path)


@pytest.mark.parametrize("name", NAMES)
def test_every_property_is_described_in_a_line(name: str) -> None:
    conditions = re.compile(r"/(if|then)/|/options$|/result$")
    for path, found in described(schemas.schema(name)):
        told_elsewhere = conditions.search(path) or ("$ref" in found and "description" not in found)
        assert told_elsewhere or found["description"], path


def test_every_command_has_a_schema() -> None:
    groups = {"app", "farm", "sam2"}
    commands = {name for name in COMMANDS if name not in groups}
    commands |= {f"{group} {name}" for group in groups for name in COMMANDS[group].load(group).commands}
    printed = [command for entry in schemas.catalogue() for command in entry["commands"]]
    assert sorted(printed) == sorted([*commands, "every command"])


def test_what_a_registry_decides_is_made_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert schemas.schema("localize")["$defs"]["cause"]["enum"] == [cause.value for cause in Cause]
    monkeypatch.setitem(METRICS, "share_lost", METRICS["max_abs"])
    metrics = schemas.schema("compare")["$defs"]["metrics"]
    assert "share_lost" in metrics["required"] and set(metrics["properties"]) == set(metrics["required"])
    assert metrics["properties"]["snr_db"]["description"].endswith("; unit: dB; higher is better.")


def test_a_schema_that_is_not_there_is_misuse() -> None:
    with pytest.raises(UsageError, match=r"There is no schema '\.\./pyproject'\."):
        schemas.schema("../pyproject")


def test_a_schema_is_printed_to_be_used_as_it_is() -> None:
    printed = json.loads(CliRunner().invoke(app, ["schema", "localize"]).stdout)
    assert printed == schemas.schema("localize")
    assert "run.json" in CliRunner().invoke(app, ["schema"]).stdout
