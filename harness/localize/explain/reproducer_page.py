"""A reproducer for a browser: one page, with the model, what it is fed and what is expected in it, that loads LiteRT.js
from where its reader says. It is written for whoever has never heard of this harness, and needs nothing of it."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.core.arrays import Array
from harness.core.job import Options
from harness.graph.model import Model

PAGE = "reproduce.html"
PACKAGE = "@litertjs/core"


@dataclass(frozen=True)
class Showing:
    """What the page says and checks. `limits`: for each output the largest and the RMS error beyond which it is wrong;
    `ops`: the model's, a line each; `times`: runs of the compiled model, over one where it is never the same; `asks`:
    whether it waits to be told to run, because the fault may end the page."""

    title: str
    summary: str
    release: str
    seen_on: Sequence[str]
    ops: Sequence[str]
    limits: Mapping[str, tuple[float, float]]
    factor: str
    options: Options
    times: int = 1
    asks: bool = False


def reproducer_page(model: Model, inputs: Mapping[str, Array], expected: Mapping[str, Array], shown: Showing) -> str:
    """The page's text. `expected` are the exact outputs by name, in the types that the model gives."""
    data = {
        "model": _packed(np.frombuffer(model.to_bytes(), np.uint8)),
        "inputs": [_array(name, values) for name, values in inputs.items()],
        "outputs": [
            {**_array(name, values), "largest": shown.limits[name][0], "rms": shown.limits[name][1]}
            for name, values in expected.items()
        ],
        "accelerator": "wasm" if shown.options.accelerator == "cpu" else "webgpu",
        "precision": "fp16" if shown.options.half else "fp32",
        "times": shown.times,
        "asks": shown.asks,
    }
    environment = Environment(
        loader=PackageLoader("harness.localize.explain"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=True,
    )  # fmt: skip
    # In a script element nothing is escaped, and "<" could end it.
    told = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    return environment.get_template("reproduce.html.j2").render(shown=shown, data=told, package=PACKAGE)


def _array(name: str, values: Array) -> dict[str, Any]:
    return {"name": name, "dtype": values.dtype.name, "shape": list(values.shape), "bytes": _packed(values)}


def _packed(values: Array) -> str:
    little = np.ascontiguousarray(values).astype(values.dtype.newbyteorder("<"), copy=False)
    return base64.b64encode(gzip.compress(little.tobytes(), 9, mtime=0)).decode("ascii")
