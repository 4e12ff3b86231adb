"""SAM 2.1's graphs on the host's CPU, of images and of the tracker: LiteRT as `bench` measures it, in turns with ONNX
Runtime.

The tracker's ONNX graphs hold more than the LiteRT ones: the prompt's encoding and the choice among masks are in the
mask decoder, the mask's scaling in the memory encoder. For LiteRT the host does that, and it is not in its time. They
are timed in two ways of writing: as they are for a GPU in float16, with every long sum in pieces, and with whole sums.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.core.job import Completed, Job, Options, Outcome, Residency, Sample
from harness.core.progress import Say
from harness.devices.base import Device, DeviceFacts, Sink
from harness.devices.cache import cache_folder
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.latency.bench import summarize
from harness.latency.compare import compare_interleaved_rounds
from harness.latency.measure import Measured, Plan, Subject, measure
from harness.latency.record import Cell
from harness.latency.table import interval
from harness.latency.validity import steady_rounds
from harness.sam2.image_path.pipeline import Models, encode
from harness.sam2.image_path.scenes import portrait
from harness.sam2.shared.card import source_request
from harness.sam2.shared.contract import CARD, INPUT_NAMES
from harness.sam2.shared.image import preprocess
from harness.sam2.shared.source import resolve
from harness.sam2.video.contract import REWRITTEN
from harness.sam2.video.conversion.convert import VideoModels
from harness.sam2.video.conversion.exported import cached_export
from harness.sam2.video.litert_stages import DeviceRunner, LiteRtStages
from harness.sam2.video.onnx_stages import OnnxStages
from harness.sam2.video.scenario import motion_clip, motion_events
from harness.sam2.video.tracker import Tracker

SLOW_SAMPLES = 30
"""Of a graph that takes seconds: enough for ten rounds, of which a comparison wants eight."""


class Onnx(Device):
    """The same weights in ONNX Runtime, in this process; run is the whole of it."""

    def __init__(self, path: Path, inputs: dict[str, Any], threads: int) -> None:
        self.name, self.kind = "onnxruntime", "onnxruntime"
        self._path, self._inputs, self._threads = path, inputs, threads
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
            options.log_severity_level = 3
            self._session = runtime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        compile_ns = perf_counter_ns() - began
        samples = []
        for i in range(job.warmup + job.iterations):
            began = perf_counter_ns()
            self._session.run(None, self._inputs)
            if i >= job.warmup:
                samples.append(Sample(0, perf_counter_ns() - began, 0))
        return Completed({}, Residency(False), tuple(samples), compile_ns, compiled, self.facts().runtime, "", "")


@dataclass(frozen=True)
class Part:
    """One graph for both engines, with what each is given, and how many samples are enough of it.

    `models` are its ways of writing for LiteRT, by name; the first is what ONNX Runtime is compared with.
    """

    name: str
    models: dict[str, Path]
    inputs: dict[str, Any]
    onnx: Path
    onnx_inputs: dict[str, Any]
    samples: int


def image_parts(folder: Path, threads: int, say: Say) -> Iterator[Part]:
    """The mask decoder and the image encoder on the portrait, the decoder as on the card."""
    models, scene = Models.of(cache_folder() / "sam2", None, variant=CARD), portrait()
    models.prepare([scene.tap], 1, say)
    pixels = preprocess(scene.photo, models.constants().image_size)
    with HostDevice() as host:
        features = encode(host, models, pixels, "cpu", 1, 600.0).features
    sparse = scene.tap.encode(scene.photo.shape, models.constants())
    arrays: dict[str, Any] = {**features, "sparse_prompt": sparse, "image": pixels}
    np.savez(folder / "inputs.npz", allow_pickle=False, **arrays)
    (folder / "source.json").write_text(json.dumps(source_request(models.source)))
    words = [sys.executable, "-m", "benchmarks.image_path", "--child", "export", "both", str(threads), str(folder)]
    say("exporting to ONNX")
    subprocess.run(words, check=True, capture_output=True, timeout=900)
    plans = {
        "decoder": (models.decoder(2).model, INPUT_NAMES, 48),
        "encoder": (models.encoder(1)[0].model, ("image",), SLOW_SAMPLES),
    }
    for name, (path, names, samples) in plans.items():
        given = {port: arrays[port] for port in names}
        yield Part(name, {"LiteRT": path}, given, folder / f"{name}.onnx", given, samples)


def video_parts(say: Say) -> Iterator[Part]:
    """The tracker's graphs on what they are given on the motion clip's second frame, for one object."""
    source, cache = resolve(None), cache_folder() / "sam2"
    exported = cached_export(cache, source, None, say)
    models = VideoModels(cache, source)
    clip, prompts = list(motion_clip(2)), {1: motion_events(2)[0].prompts[1]}
    ways = {"LiteRT, sums in pieces": models, "LiteRT, whole sums": replace(models, variant=CARD)}
    for way in ways.values():
        way.prepare({2, *(tap.tokens for tap in prompts.values())}, say)
    say("two frames on each engine")
    told: dict[str, dict[str, Any]] = {}
    seen: dict[str, dict[str, Any]] = {}
    onnx = OnnxStages(exported, record=lambda graph, inputs: told.update({graph: inputs}))
    with HostDevice() as host:
        lite = LiteRtStages(
            DeviceRunner(host, 600.0),
            models,
            onnx.constants,
            onnx.pointer_positions,
            seen=lambda graph, _, inputs: seen.update({graph: inputs}),
            gated=False,
        )
        for stages in (onnx, lite):
            tracker = Tracker(stages, total=2)
            tracker.seed(clip[0], prompts)
            tracker.step(clip[1])
    for graph in REWRITTEN:
        prompt = seen[graph].get("sparse_prompt")
        tokens = 2 if prompt is None else prompt.shape[1]
        paths = {name: way.plan(graph, tokens).model for name, way in ways.items()}
        name = f"tracker's {graph.replace('_', ' ')}"
        onnx_path, enough = exported / "onnx" / f"{graph}.onnx", 48 if graph == "mask_decoder" else SLOW_SAMPLES
        yield Part(name, paths, seen[graph], onnx_path, told[graph], enough)


def compare_models(console: Console, seconds: float, which: Sequence[str] = ("image", "video")) -> bool:
    """Prints the table; True when LiteRT is at least as quick on the image path's decoder."""
    threads = os.cpu_count() or 1
    table = Table(
        "graph", "engine", "p50 ms [95 %]", "p90", "peak MB", "times the first, undisturbed", "as bench marks it"
    )
    ahead = True

    def say(what: str) -> None:
        console.print(f"[dim]{what}[/]")

    with tempfile.TemporaryDirectory() as scratch:
        parts = [*(image_parts(Path(scratch), threads, say) if "image" in which else ())]
        parts += [*(video_parts(say) if "video" in which else ())]
        for part in parts:
            say(f"timing the {part.name}")
            first, *others = timed(part, seconds, threads).items()
            add_row(table, part.name, *first, "1")
            for engine, measured in others:
                found = compare_interleaved_rounds(steady_rounds(measured.timed()), steady_rounds(first[1].timed()))
                assert found.ratio is not None
                ahead &= part.name != "decoder" or found.ratio.value >= 1
                ratio = f"{found.ratio.value:.2f} [{found.ratio.low:.2f}, {found.ratio.high:.2f}]"
                add_row(table, part.name, engine, measured, ratio)
    console.print(table)
    console.print(f"SAM 2.1 Hiera-Tiny, {resolve(None).provenance}, float32, {threads} threads, in turns.")
    if "image" in which:
        console.print(
            f"[{'green' if ahead else 'red'}]{'met' if ahead else 'MISSED'}[/] LiteRT's decoder is the quicker"
        )
    return ahead


def timed(part: Part, seconds: float, threads: int) -> dict[str, Measured]:
    """LiteRT, in each way of writing, and ONNX Runtime in turns on one graph."""
    options = Options(accelerator="cpu", threads=threads)

    def subject(path: Path, device: str) -> Subject:
        model = Model.load(path)
        cell = Cell(part.name, model.sha256, device, "cpu", threads=threads)
        return Subject(cell, model, part.inputs, options)

    engines = {name: subject(path, "host") for name, path in part.models.items()}
    engines["ONNX Runtime"] = subject(next(iter(part.models.values())), "onnxruntime")
    plan = Plan(samples=part.samples, seconds=seconds, rounds=12, replications=1)
    found = measure(
        list(engines.values()),
        plan,
        lambda name: HostDevice() if name == "host" else Onnx(part.onnx, part.onnx_inputs, threads),
    )
    return dict(zip(engines, found, strict=True))


def add_row(table: Table, name: str, engine: str, measured: Measured, ratio: str) -> None:
    """One engine's figures on one graph."""
    result = summarize(measured, measured.timed())
    total = result.latency["total"]
    peak = "–" if result.peak_bytes is None else f"{result.peak_bytes / 1e6:.0f}"
    marks = ", ".join(dict.fromkeys(flaw.reason for flaw in result.invalid)) or "valid"
    marks = "–" if engine == "ONNX Runtime" else marks  # nothing is read of this process's surroundings
    words = (interval(total.p50), f"{total.p90.value:.4g}", peak, ratio.replace("[", r"\["), marks)
    table.add_row(name, engine, *words)
