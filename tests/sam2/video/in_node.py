"""onnxruntime-web, which browsers run ONNX graphs with, under node: its wasm back end on one thread."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.cache import cache_folder
from tests.parts import NpmPackage, fetched, only_one, tool

WHOSE = "onnxruntime-web"
PACKAGES = (
    NpmPackage(
        "onnxruntime-web",
        "1.30.0",
        "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    ),
    NpmPackage(
        "onnxruntime-common",
        "1.30.0",
        "7fdVWjAID1dVhH/G8qK3APARunV4VkBFoCQAP7qp4Wkab0mrorvmc+sqiT+mKXOzDqdjN5j+/Z9nb4gzNPWcyA==",
    ),
)
"""All that its build for node imports."""
HERE = Path(__file__).parent

Runs = Mapping[str, Mapping[str, NDArray[Any]]]
"""By the name of a graph, values by name."""


def module() -> Path:
    """The build for node, fetched once. Raises `MissingPart`."""
    home = cache_folder() / "npm"
    home.mkdir(parents=True, exist_ok=True)

    def fetch(folder: Path) -> None:
        (modules := folder / "node_modules").mkdir()
        for package in PACKAGES:
            package.unpack(folder, WHOSE)
            (folder / "package").rename(modules / package.name)

    digests = "-".join(str(package.sha512)[:8].replace("/", "_") for package in PACKAGES)
    with only_one(home / "lock"):
        found = fetched(home / f"onnxruntime-web-{PACKAGES[0].version}-{digests}", fetch)
    return found / "node_modules" / "onnxruntime-web" / "dist" / "ort.node.min.mjs"


def run_in_node(graphs: Mapping[str, Path], inputs: Runs, folder: Path, seconds: float) -> Runs:
    """Every graph's outputs, all within so many `seconds`. `folder` is for values on their way.

    Raises `MissingPart`; `AssertionError` with node's words where it fails.
    """
    node, built = tool("node", "apt-get install nodejs", WHOSE), module()
    tasks = []
    for name, path in graphs.items():
        (out := folder / name).mkdir()
        ports = []
        for port, values in inputs[name].items():
            (file := out / f"{port}.in").write_bytes(np.ascontiguousarray(values).tobytes())
            ports.append({"name": port, "type": str(values.dtype), "dims": list(values.shape), "file": str(file)})
        tasks.append({"graph": str(path), "name": name, "inputs": ports, "out": str(out)})
    (told := folder / "tasks.json").write_text(json.dumps(tasks), "utf-8")
    command = [node, str(HERE / "in_node.mjs"), str(built), str(told)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout)
    return {
        name: {
            port: np.fromfile(folder / name / f"{port}.bin", one["type"]).reshape(one["dims"])
            for port, one in said[name].items()
        }
        for name in graphs
    }
