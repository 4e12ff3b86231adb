"""The cells of a benchmark: every model on every device under every choice that means something there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from harness.core.arrays import Array
from harness.core.choices import Accelerator, Precision
from harness.core.errors import UsageError
from harness.core.job import Options
from harness.graph.model import Model
from harness.latency.measure import Subject
from harness.latency.record import Cell

CellBackend = Literal["default", "plain", "opencl", "opengl"]


@dataclass(frozen=True)
class Choices:
    """What the command line names; each may have several values. `plain` is a back end of the CPU, OpenCL and OpenGL
    are a phone's GPU's; threads are the CPU's, precisions the others'."""

    devices: tuple[str, ...] = ("host",)
    accelerators: tuple[Accelerator, ...] = ("gpu",)
    precisions: tuple[Precision, ...] = ("default",)
    backends: tuple[CellBackend, ...] = ("default",)
    threads: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Loaded:
    """A model with its inputs, ready to run. `path` is what a person would recognize it by, `file_sha256` the digest of
    the file that it was read from, empty where there is none."""

    path: Path
    model: Model
    inputs: dict[str, Array]
    file_sha256: str = ""


def subjects(models: Sequence[Loaded], choices: Choices) -> tuple[Subject, ...]:
    """The cells, those of one model beside each other. A choice is left out where it means nothing (threads of a GPU);
    what is the same cell then is there once.

    Raises:
        UsageError: a value means nothing for any cell.
    """
    found: dict[Cell, Subject] = {}
    for loaded in models:
        for device in choices.devices:
            for options, backend in _options(choices):
                cell = Cell(
                    model=str(loaded.path),
                    model_sha256=loaded.model.sha256,
                    device=device,
                    accelerator="cpu" if options.accelerator == "reference" else options.accelerator,
                    precision=options.precision,
                    backend=backend,
                    threads=options.threads,
                )
                found.setdefault(cell, Subject(cell, loaded.model, loaded.inputs, options, loaded.file_sha256))
    return tuple(found.values())


def _options(choices: Choices) -> list[tuple[Options, CellBackend]]:
    found: dict[tuple[Options, CellBackend], None] = {}
    for accelerator, precision, backend, threads in product(
        choices.accelerators, choices.precisions, choices.backends, choices.threads
    ):
        if accelerator == "cpu":
            if backend in ("default", "plain") and precision in ("default", "fp32"):
                kind: Accelerator = "reference" if backend == "plain" else "cpu"
                found[Options(kind, threads=threads), backend] = None
        elif backend != "plain":
            found[Options(accelerator, precision, backend=backend), backend] = None
    cells = list(found)
    used: list[tuple[str, object, set[object]]] = [
        ("accelerator", a, {"cpu" if o.accelerator == "reference" else o.accelerator for o, _ in cells})
        for a in choices.accelerators
    ]
    used += [("precision", p, {o.precision for o, _ in cells} | {"default", "fp32"}) for p in choices.precisions]
    used += [("backend", b, {backend for _, backend in cells}) for b in choices.backends]
    used += [("threads", t, {o.threads for o, _ in cells} | {0}) for t in choices.threads]
    for name, value, known in used:
        if value not in known:
            raise UsageError(
                f"--{name} {value} means nothing for {' or '.join(choices.accelerators)} with the other choices.",
                "Threads and `plain` are the CPU's; fp16, fp16-fp32acc, opencl and opengl are a GPU's.",
            )
    return cells
