"""The tracker's graphs on LiteRT, each on the CPU or the GPU of a device, and mixtures with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.core.job import Residency
from harness.core.progress import Say
from harness.devices.base import Device
from harness.graph.model import Model
from harness.sam2.shared.in_parts import Ran, run
from harness.sam2.shared.unit import Unit
from harness.sam2.video.contract import REWRITTEN, Constants, FloatArray, Rewritten
from harness.sam2.video.conversion.convert import GraphPlan, VideoModels
from harness.sam2.video.stages import DecodedFrame, Features, Stages

Backend = Literal["onnx", "cpu", "gpu"]
"""ONNX Runtime, or LiteRT on a device's CPU or GPU."""

Watcher = Callable[[Rewritten, Unit, dict[str, FloatArray]], None]
"""Told of every run: the graph, the unit and its inputs."""

PointerPositions = Callable[[FloatArray], FloatArray]


class Runner(Protocol):
    """What runs a converted graph."""

    def run(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> Ran:
        """Run `model`, which is `graph`, on the unit. Raises `DeviceError`."""

    def parts(self, model: Model, unit: Unit) -> int:
        """In how many parts at most it is run there."""


@dataclass(frozen=True)
class DeviceRunner:
    """Each graph as one job of the device, or on its GPU in at most as many parts as `in_parts` says; the seconds are
    for one of them."""

    device: Device
    timeout: float
    in_parts: Callable[[Model], int] | None = None

    def run(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> Ran:
        """As `Runner.run`."""
        count = self.parts(model, unit)
        return run(self.device, model, inputs, unit, count, timeout=self.timeout, doing=f"running {graph}")

    def parts(self, model: Model, unit: Unit) -> int:
        """As `Runner.parts`."""
        return self.in_parts(model) if unit == "gpu" and self.in_parts is not None else 1


class LiteRtStages:
    """The graphs of `models`, those in `units` on that unit and the others on the CPU; positions of object pointers,
    a table, come from `pointer_positions`. `models` are prepared for every prompt length that will be asked.

    `gated`: an object is there as the model says; else always, since a random model's word means nothing.
    A graph that the device refuses or does not complete raises `DeviceError`, from the method that runs it.
    """

    def __init__(
        self,
        runner: Runner,
        models: VideoModels,
        constants: Constants,
        pointer_positions: PointerPositions,
        units: Mapping[Rewritten, Unit] | None = None,
        *,
        seen: Watcher | None = None,
        gated: bool = True,
    ) -> None:
        self.constants = constants
        self.units: dict[Rewritten, Unit] = {graph: (units or {}).get(graph, "cpu") for graph in REWRITTEN}
        self.residency: dict[Rewritten, Residency] = {}
        """Of each graph, as last run."""
        self.parts: dict[Rewritten, int] = {}
        """In how many each was last run."""
        self.adapter = ""
        """The GPU, once one was used."""
        self.takes_mask = False
        """The converted decoder has no input for it."""
        self._runner, self._models, self._host = runner, models, models.constants()
        self._places, self._seen = pointer_positions, seen
        self._gated = gated
        self._loaded: dict[GraphPlan, Model] = {}

    def encode(self, pixels: FloatArray) -> Features:
        """As `Stages.encode`."""
        return self._host.features(self._run("vision_encoder", {"image": pixels}))

    def decode(
        self,
        features: Features,
        conditioned: FloatArray,
        points: FloatArray,
        labels: NDArray[np.int32],
        mask: FloatArray | None = None,
    ) -> DecodedFrame:
        """As `Stages.decode`; raises `ValueError` for a mask."""
        if mask is not None:
            raise ValueError("the decoder for LiteRT takes no mask")
        inputs = self._host.decoder_inputs(features, conditioned, points, labels)
        made = self._run("mask_decoder", inputs, tokens=inputs["sparse_prompt"].shape[1])
        return self._host.decoded(made, len(labels), gated=self._gated)

    def memorize(self, features: Features, decoded: DecodedFrame, *, binarize: bool) -> tuple[FloatArray, FloatArray]:
        """As `Stages.memorize`."""
        inputs = self._host.memory_inputs(features, decoded, binarize=binarize)
        return self._host.memory(self._run("memory_encoder", inputs), decoded)

    def attend(self, features: Features, memory: FloatArray, positions: FloatArray) -> FloatArray:
        """As `Stages.attend`."""
        inputs = self._host.attention_inputs(features, memory, positions)
        return self._host.conditioned(self._run("memory_attention", inputs))

    def pointer_positions(self, offsets: FloatArray) -> FloatArray:
        """As `Stages.pointer_positions`."""
        return self._places(offsets)

    def _run(self, graph: Rewritten, inputs: dict[str, FloatArray], tokens: int = 2) -> dict[str, FloatArray]:
        unit = self.units[graph]
        if self._seen is not None:
            self._seen(graph, unit, inputs)
        plan = self._models.plan(graph, tokens)
        if plan not in self._loaded:
            self._loaded[plan] = Model.load(plan.model)
        ran = self._runner.run(graph, self._loaded[plan], inputs, unit)
        self.residency[graph] = ran.residency
        self.parts[graph] = ran.parts
        if unit == "gpu":
            self.adapter = ran.adapter
        return ran.outputs


@dataclass(frozen=True)
class MixedStages:
    """Each graph from one of two sides: those of `chosen` from `litert`, the others from `rest`."""

    rest: Stages
    litert: Stages
    chosen: frozenset[Rewritten]

    @property
    def constants(self) -> Constants:
        """As `Stages.constants`."""
        return self.rest.constants

    def encode(self, pixels: FloatArray) -> Features:
        """As `Stages.encode`."""
        return self._side("vision_encoder").encode(pixels)

    @property
    def takes_mask(self) -> bool:
        """As `Stages.takes_mask`."""
        return self._side("mask_decoder").takes_mask

    def decode(
        self,
        features: Features,
        conditioned: FloatArray,
        points: FloatArray,
        labels: NDArray[np.int32],
        mask: FloatArray | None = None,
    ) -> DecodedFrame:
        """As `Stages.decode`."""
        return self._side("mask_decoder").decode(features, conditioned, points, labels, mask)

    def memorize(self, features: Features, decoded: DecodedFrame, *, binarize: bool) -> tuple[FloatArray, FloatArray]:
        """As `Stages.memorize`."""
        return self._side("memory_encoder").memorize(features, decoded, binarize=binarize)

    def attend(self, features: Features, memory: FloatArray, positions: FloatArray) -> FloatArray:
        """As `Stages.attend`."""
        return self._side("memory_attention").attend(features, memory, positions)

    def pointer_positions(self, offsets: FloatArray) -> FloatArray:
        """As `Stages.pointer_positions`."""
        return self.rest.pointer_positions(offsets)

    def _side(self, graph: Rewritten) -> Stages:
        return self.litert if graph in self.chosen else self.rest


def mixed(
    onnx: Stages,
    device: Device,
    models: VideoModels,
    backends: Mapping[Rewritten, Backend],
    tokens: Iterable[int],
    progress: Say,
    *,
    timeout: float = 600.0,
) -> Stages:
    """The loop's stages with each graph on the backend that `backends` says, by default ONNX Runtime. Converts what it
    needs for prompts of so many `tokens`. Raises as `VideoModels.prepare`, and `UsageError` where `onnx` is of other
    weights or another size."""
    chosen = frozenset(graph for graph, backend in backends.items() if backend != "onnx")
    if not chosen:
        return onnx
    constants = onnx.constants
    check_same_weights(constants, models)
    if "memory_attention" in chosen and constants.sizes.blocks != len(constants.temporal):
        raise UsageError(
            f"The exported graphs have room for {constants.sizes.blocks} frame memories, the converted one for "
            f"{len(constants.temporal)}.",
            "Export them again without --blocks, or leave memory attention on onnx.",
        )
    # A frame without a prompt asks with a padding point.
    models.prepare({2, *tokens}, progress, [graph for graph in REWRITTEN if graph in chosen])
    _check_side(constants, models.constants().prompt.image_size)
    units: dict[Rewritten, Unit] = {graph: "gpu" if backends[graph] == "gpu" else "cpu" for graph in chosen}
    runner = DeviceRunner(device, timeout)
    litert = LiteRtStages(runner, models, onnx.constants, onnx.pointer_positions, units)
    return MixedStages(onnx, litert, chosen)


def check_same_weights(constants: Constants, models: VideoModels) -> None:
    """Raise `UsageError` where the ONNX graphs and the ones to convert are of other weights or another size."""
    if constants.provenance != models.source.provenance:
        raise UsageError(
            f"The exported graphs are of {constants.provenance}, the converted ones of {models.source.provenance}.",
            "Give --weights what the graphs were exported from.",
        )
    _check_side(constants, models.side)


def _check_side(onnx: Constants, side: int | None) -> None:
    if side not in (None, onnx.sizes.side):
        raise UsageError(
            f"The exported graphs take {onnx.sizes.side} pixels, the converted ones {side}.",
            "Give the same --side and --weights that the graphs were exported with.",
        )
