"""The form of every JSON document that the harness prints or writes: JSON Schemas, draft 2020-12, in harness/schemas/.

A file there has one document; what documents share is in parts.json. What a registry decides is made from the registry.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from harness.core.errors import UsageError
from harness.numerics.metrics import METRICS
from harness.remedies.cause import Cause

_FOLDER = files("harness") / "schemas"
_SHARED = "parts.json"


def names() -> list[str]:
    """Every document's name."""
    return sorted(
        file.name.removesuffix(".json")
        for file in _FOLDER.iterdir()
        if file.name.endswith(".json") and file.name != _SHARED
    )


def schema(name: str) -> dict[str, Any]:
    """The schema of one document, whole: what it refers to is in its `$defs`. Raises UsageError for another name."""
    if name not in names():
        raise UsageError(f"There is no schema '{name}'.", "`harness schema` lists them.")
    found: dict[str, Any] = json.loads(_text(f"{name}.json").replace(f'"{_SHARED}#', '"#'))
    shared = json.loads(_text(_SHARED))["$defs"] | {"metrics": _metrics(), "cause": {"enum": list(Cause)}}
    parts, left = found.get("$defs", {}), [found]
    while left:
        for part in re.findall(r'"#/\$defs/(\w+)', json.dumps(left.pop())):
            if part not in parts:
                parts[part] = shared[part]
                left.append(shared[part])
    return found | {"$defs": parts} if parts else found


def catalogue() -> list[dict[str, Any]]:
    """Every document: its name and title, the commands that print it, the files that hold it."""
    told = [(name, schema(name)) for name in names()]
    return [{"name": n, "title": s["title"], "commands": s["x-commands"], "files": s["x-files"]} for n, s in told]


def _metrics() -> dict[str, Any]:
    read = {name: metric for name, metric in METRICS.items() if metric.of is not None}
    figures = {
        name: {"$ref": "#/$defs/number", "description": f"{m.meaning}; unit: {m.unit}; {m.better} is better."}
        for name, m in read.items()
    }
    return {"type": "object", "required": list(figures), "properties": figures}


def _text(file: str) -> str:
    return (_FOLDER / file).read_text(encoding="utf-8")
