"""SAM 2.1's encoder and decoder on the host's CPU: LiteRT as `bench` measures it, in turns with ONNX Runtime."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.devices.base import Device, DeviceFacts, Sink
from harness.devices.host import HostDevice, cache_folder
from harness.graph.model import Model
from harness.job import Completed, Job, Options, Outcome, Residency, Sample
from harness.latency.bench import summarize
from harness.latency.compare import beside_rounds
from harness.latency.measure import Plan, Subject, measure
from harness.latency.record import Cell
from harness.latency.table import interval
from harness.latency.validity import steady_rounds
from harness.sam2.contract import CARD, INPUT_NAMES
from harness.sam2.convert import source_request
from harness.sam2.pipeline import Models, encode, prepare_models, preprocessed
from harness.sam2.scenes import portrait


class Onnx(Device):
    """The same weights in ONNX Runtime, in this process; run is the whole of it."""

    def __init__(self, path: Path, threads: int) -> None:
        self.name, self.kind = "onnxruntime", "onnxruntime"
        self._path, self._threads = path, threads
        self._session: Any = None

    def facts(self) -> DeviceFacts:
        return DeviceFacts(self.name, self.kind, importlib.metadata.version("onnxruntime"), "", "")

    def close(self) -> None:
        self._session = None

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        compiled, began = self._session is None, perf_counter_ns()
        if compiled:
            runtime = importlib.import_module("onnxruntime")
            options = runtime.SessionOptions()
            options.intra_op_num_threads = self._threads
            self._session = runtime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        compile_ns = perf_counter_ns() - began
        given = {port.name: job.inputs[port.name] for port in self._session.get_inputs()}
        samples = []
        for i in range(job.warmup + job.iterations):
            began = perf_counter_ns()
            self._session.run(None, given)
            if i >= job.warmup:
                samples.append(Sample(0, perf_counter_ns() - began, 0))
        return Completed({}, Residency(False), tuple(samples), compile_ns, compiled, self.facts().runtime, "", "")


def compare_models(console: Console, seconds: float, parts: Sequence[str] = ("decoder", "encoder")) -> bool:
    """Prints the table; True when LiteRT is at least as quick on the decoder."""
    threads = os.cpu_count() or 1
    models = Models.of(cache_folder() / "sam2", None, variant=CARD)
    scene = portrait()
    prepare_models(models, [scene.tap], 1, lambda what: console.print(f"[dim]{what}[/]"))
    table = Table("part", "engine", "p50 ms [95 %]", "p90", "peak MB", "times LiteRT, undisturbed", "as bench marks it")
    ahead = True
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pixels = preprocessed(scene.photo, models.constants().image_size, lambda _: None)
        with HostDevice() as host:
            features = encode(host, models, pixels, "cpu", 1, 600.0).features
        sparse = scene.tap.encode(scene.photo.shape, models.constants())
        arrays: dict[str, Any] = {**features, "sparse_prompt": sparse, "image": pixels}
        np.savez(folder / "inputs.npz", allow_pickle=False, **arrays)
        (folder / "source.json").write_text(json.dumps(source_request(models.source)))
        words = [sys.executable, "-m", "benchmarks.image_path", "--child", "export", "both", str(threads), str(folder)]
        console.print("[dim]exporting to ONNX[/]")
        subprocess.run(words, check=True, capture_output=True, timeout=900)
        for part in parts:
            plan = Plan(samples=48 if part == "decoder" else 12, seconds=seconds, rounds=12, replications=1)
            path = (models.decoder(2) if part == "decoder" else models.encoder(1)[0]).model
            model, names = Model.load(path), INPUT_NAMES if part == "decoder" else ("image",)
            inputs = {name: arrays[name] for name in names}
            options = Options(accelerator="cpu", threads=threads)
            cells = [
                Subject(Cell(part, model.sha256, device, "cpu", threads=threads), model, inputs, options)
                for device in ("host", "onnxruntime")
            ]
            lite, onnx = measure(
                cells,
                plan,
                lambda name, part=part: HostDevice() if name == "host" else Onnx(folder / f"{part}.onnx", threads),  # type: ignore[misc]
            )
            found = beside_rounds(steady_rounds(onnx.timed()), steady_rounds(lite.timed()))
            assert found.ratio is not None
            ahead &= part != "decoder" or found.ratio.value >= 1
            for name, one in (("LiteRT", lite), ("ONNX Runtime", onnx)):
                result = summarize(one, one.timed())
                total = result.latency["total"]
                peak = "–" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}"
                marks = ", ".join(dict.fromkeys(flaw.reason for flaw in result.invalid)) or "valid"
                marks = marks if one is lite else "–"  # nothing is read of this process's surroundings
                ratio = (
                    "1" if one is lite else f"{found.ratio.value:.2f} [{found.ratio.low:.2f}, {found.ratio.high:.2f}]"
                )
                table.add_row(
                    part, name, interval(total.p50), f"{total.p90.value:.4g}", peak, ratio.replace("[", r"\["), marks
                )
    console.print(table)
    console.print(f"SAM 2.1 Hiera-Tiny, {models.source.provenance}, float32, {threads} threads, in turns.")
    console.print(f"[{'green' if ahead else 'red'}]{'met' if ahead else 'MISSED'}[/] LiteRT's decoder is the quicker")
    return ahead
