"""The tracker's graphs as they are handed to the converter, computed by torch: without the minutes of a conversion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

from harness.core.job import Completed, Job, Outcome, Residency, Sample
from harness.devices.base import Device, DeviceFacts, Sink
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.sam2.shared.files import make_folder, write_arrays
from harness.sam2.shared.weights import prompt_constants
from harness.sam2.video.contract import REWRITTEN, REWRITTEN_PORTS, Rewritten
from harness.sam2.video.conversion.convert import VideoModels
from harness.sam2.video.conversion.rewritten import build, host_arrays, sample
from tests.localize.planted import NoProcess

if TYPE_CHECKING:
    from transformers import Sam2VideoModel


class InTorch(Device):
    """Runs the stand-ins that `write_standins` wrote, each by the graph that it stands for."""

    def __init__(self, graphs: dict[str, tuple[Rewritten, torch.nn.Module]]) -> None:
        super().__init__("host", "host", NoProcess())
        self._graphs = graphs

    def facts(self) -> DeviceFacts:
        return DeviceFacts(self.name, self.kind, torch.__version__, "torch", "")

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        graph, module = self._graphs[job.sha256]
        inputs, outputs = REWRITTEN_PORTS[graph]
        with torch.inference_mode():
            made = module(*(torch.from_numpy(job.inputs[name]) for name in inputs))
        values = made if isinstance(made, tuple) else (made,)
        named = {name: value.numpy() for name, value in zip(outputs, values, strict=True)}
        return Completed(named, Residency(True), (Sample(1, 1, 1),), 1, False, "2.3.0", "torch", "")


def write_standins(
    models: VideoModels, model: Sam2VideoModel, tokens: Iterable[int]
) -> dict[str, tuple[Rewritten, torch.nn.Module]]:
    """A small .tflite in the place of every graph of `models`, for prompts of so many `tokens`, beside the host's real
    constants. Gives by SHA-256 which graph each stands for, as torch computes it."""
    make_folder(models.cache_dir)
    prompt, host = models._constants_files()
    prompt_constants(model).save(prompt)
    write_arrays(host, host_arrays(model))
    found: dict[str, tuple[Rewritten, torch.nn.Module]] = {}
    for graph in REWRITTEN:
        module = build(model, graph, models.variant)
        for count in tokens if graph == "mask_decoder" else (2,):
            path = models.plan(graph, count).model
            path.write_bytes(_standin(graph, [tuple(value.shape) for value in sample(model, graph, count)]).to_bytes())
            found[hashlib.sha256(path.read_bytes()).hexdigest()] = (graph, module)
    return found


def _standin(graph: Rewritten, shapes: list[tuple[int, ...]]) -> Model:
    """The graph's inputs, and something of the names of its outputs."""
    inputs, outputs = REWRITTEN_PORTS[graph]
    builder = GraphBuilder()
    first, *_ = [builder.input(name, shape) for name, shape in zip(inputs, shapes, strict=True)]
    for name in outputs:
        builder.output(builder.softmax(first), name)
    return builder.build()
