"""JSON from somewhere else, a file or a peer: nested no deeper than the parser's stack bears."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 200
"""Levels of arrays and objects; what this project writes has under ten."""

# A string, ended or not, or a bracket.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*\\?(?:"|\Z)|[][{}]', re.DOTALL)


def loads(text: str | bytes) -> Any:
    """The value of a JSON document.

    Python's parser counts on the interpreter's recursion limit. Packages raise it for themselves (litert_converter
    does), and a document of a hundred thousand brackets then ends the process.

    Raises:
        ValueError: not UTF-8, not JSON, or nested more than `MAX_DEPTH` deep.
    """
    content = text if isinstance(text, str) else text.decode("utf-8")
    if content.count("[") + content.count("{") > MAX_DEPTH and _depth(content) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return json.loads(content)


def _depth(content: str) -> int:
    depth = deepest = 0
    for token in _TOKEN.finditer(content):
        match token[0][0]:
            case "[" | "{":
                depth += 1
                deepest = max(deepest, depth)
            case "]" | "}":
                depth -= 1
    return deepest
