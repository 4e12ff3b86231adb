"""JSON from somewhere else, a file or a peer: nested no deeper than the parser's stack bears, with no more values than
memory does."""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 200
"""Levels of arrays and objects; what this project writes has under ten."""

MAX_VALUES = 3_000_000
"""Values of one document, by the commas and brackets in it, those within strings too. A small one takes Python some
hundred bytes, of two or three in the document."""

# A string, ended or not, or a bracket. Possessive, so that a string is passed over as a whole.
_TOKEN = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?(?:"|\Z)|[][{}]', re.DOTALL)


def loads(text: str | bytes) -> Any:
    """The value of a JSON document.

    Python's parser counts on the interpreter's recursion limit. Packages raise it for themselves (litert_converter
    does), and a document of a hundred thousand brackets then ends the process.

    Raises:
        ValueError: not UTF-8, not JSON, more than `MAX_VALUES` values, or nested more than `MAX_DEPTH` deep.
    """
    content = text if isinstance(text, str) else text.decode("utf-8")
    brackets = content.count("[") + content.count("{")
    if brackets + content.count(",") > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES:,} values")
    if brackets > MAX_DEPTH and _is_deep(content):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    return json.loads(content)


def _is_deep(content: str) -> bool:
    depth = 0
    for token in _TOKEN.finditer(content):
        match token[0][0]:
            case "[" | "{":
                depth += 1
                if depth > MAX_DEPTH:
                    return True
            case "]" | "}":
                depth -= 1
    return False
