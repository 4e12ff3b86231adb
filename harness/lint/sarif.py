"""Findings as SARIF 2.1.0, the form in which code review shows what a checker finds.

A .tflite has no lines: a finding's physical place is the file, its first line for the sake of viewers that want one,
and its logical place is the op. What stays the same between two versions of a model is its fingerprint: the entry, the
op's kind, its result's name and the operand's shape, and no index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from harness import __version__
from harness.core.visible import visible
from harness.lint.finding import Finding
from harness.lint.knowledge.entry import EFFECTS, Entry

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_ROOT = "SRCROOT"


@dataclass(frozen=True)
class Looked:
    """One file: its findings, or why it was not looked at."""

    path: Path
    findings: tuple[Finding, ...] = ()
    trouble: str = ""


def sarif(files: Sequence[Looked]) -> dict[str, Any]:
    """The document over all files."""
    found = [(one.path, finding) for one in files for finding in one.findings]
    rules = sorted({finding.entry.name: finding.entry for _, finding in found}.values(), key=lambda entry: entry.name)
    places = {entry.name: place for place, entry in enumerate(rules)}
    unread = [one for one in files if one.trouble]
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "harness lint", "version": __version__, "rules": [_rule(each) for each in rules]}
                },
                "invocations": [
                    {
                        "executionSuccessful": not unread,
                        "toolExecutionNotifications": [
                            {
                                "level": "error",
                                "message": {"text": visible(one.trouble)},
                                "locations": [{"physicalLocation": _place(one.path)}],
                            }
                            for one in unread
                        ],
                    }
                ],
                "artifacts": [{"location": _location(one.path)} for one in files],
                "results": [_result(path, finding, places[finding.rule]) for path, finding in found],
                "columnKind": "unicodeCodePoints",
            }
        ],
    }


def _rule(entry: Entry) -> dict[str, Any]:
    evidence = [each for each in entry.evidence if not each.planted]
    links = [f"- {each.says}: {each.issue or ', '.join(each.versions)}" for each in evidence]
    rule = {
        "id": entry.name,
        "shortDescription": {"text": f"{entry.title}."},
        "fullDescription": {"text": entry.why},
        "help": {"text": entry.why, "markdown": "\n".join([entry.why, "", *links])},
        "defaultConfiguration": {"level": "warning" if entry.effect in ("precision", "slow") else "error"},
        "properties": {"tags": [entry.effect], "effect": EFFECTS[entry.effect]},
    }
    address = next(iter(entry.issues), "")
    return rule | ({"helpUri": address} if address else {})


def _result(path: Path, finding: Finding, place: int) -> dict[str, Any]:
    name = f"{finding.op_name} #{finding.op}"
    whole = "/".join(filter(None, (finding.signature or f"subgraph {finding.subgraph}", name)))
    return {
        "ruleId": finding.rule,
        "ruleIndex": place,
        "level": _level(finding),
        "message": {"text": visible(f"{name} ({_said(finding)}): {finding.sentence} {finding.fix}")},
        "locations": [
            {
                "physicalLocation": _place(path),
                "logicalLocations": [{"name": name, "fullyQualifiedName": visible(whole), "kind": "object"}],
            }
        ],
        "partialFingerprints": {"op/v1": _fingerprint(finding)},
        "properties": {"target": finding.target, "effect": finding.effect, "certain": finding.sure == "certain"},
    }


def _level(finding: Finding) -> Literal["error", "warning", "note"]:
    if finding.sure != "certain":
        return "note" if finding.effect in ("precision", "slow") else "warning"
    return "warning" if finding.effect in ("precision", "slow") else "error"


def _said(finding: Finding) -> str:
    return f"{'' if finding.sure == 'certain' else 'at risk of being '}{EFFECTS[finding.effect]}, {finding.target}"


def _place(path: Path) -> dict[str, Any]:
    return {"artifactLocation": _location(path), "region": {"startLine": 1}}


def _location(path: Path) -> dict[str, str]:
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(path.as_posix()), "uriBaseId": _ROOT}


def _fingerprint(finding: Finding) -> str:
    held = (finding.rule, finding.signature, finding.op_name, finding.output, *finding.shape)
    return hashlib.sha256("\0".join(map(str, held)).encode("utf-8", "backslashreplace")).hexdigest()[:32]
