"""The five exported graphs on ONNX Runtime: numpy in, numpy out, no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError, install_extra
from harness.sam2.video.contract import GRAPHS, Constants, FloatArray, Graph, GraphPort, ports
from harness.sam2.video.stages import DecodedFrame, Features

Record = Callable[[Graph, dict[str, Any]], None]
"""Told of every run: the graph and its inputs."""

NEXT_STEP = "Export the graphs again with `harness sam2 export-video`."


class OnnxStages:
    """The graphs in a folder that `harness sam2 export-video` wrote.

    Raises `UsageError` for a folder without them, a graph that ONNX Runtime does not load, or one whose inputs and
    outputs are others.
    """

    def __init__(self, folder: Path, threads: int = 0, record: Record | None = None) -> None:
        self.constants = Constants.load(folder)
        self._record = record
        self._sessions = {graph: self._open(folder / "onnx" / f"{graph}.onnx", graph, threads) for graph in GRAPHS}

    def run(self, graph: Graph, inputs: dict[str, Any]) -> dict[str, FloatArray]:
        """One graph on inputs by name."""
        if self._record is not None:
            self._record(graph, inputs)
        session = self._sessions[graph]
        names = [port.name for port in ports(graph, self.constants.sizes)[1]]
        return dict(zip(names, session.run(names, inputs), strict=True))

    def encode(self, pixels: FloatArray) -> Features:
        """As `Stages.encode`."""
        made = self.run("vision_encoder", {"pixel_values": pixels})
        names = ("feats0", "feats1", "feats2", "feats2_no_mem", "vision_pos_embed")
        return Features(*(made[name] for name in names))

    def decode(
        self, features: Features, conditioned: FloatArray, points: FloatArray, labels: NDArray[np.int32]
    ) -> DecodedFrame:
        """As `Stages.decode`."""
        made = self.run("mask_decoder", decoder_inputs(features, conditioned, points, labels))
        return DecodedFrame(
            made["low_res_mask"],
            made["high_res_mask"],
            float(made["iou"][0, 0]),
            float(made["object_score_logits"][0, 0, 0]),
            made["object_pointer"][0, 0],
        )

    def memorize(self, features: Features, decoded: DecodedFrame, *, binarize: bool) -> tuple[FloatArray, FloatArray]:
        """As `Stages.memorize`."""
        made = self.run("memory_encoder", memory_inputs(features, decoded, binarize=binarize))
        return made["memory_tokens"][:, 0], made["memory_pos"][:, 0]

    def attend(self, features: Features, memory: FloatArray, positions: FloatArray) -> FloatArray:
        """As `Stages.attend`."""
        return self.run("memory_attention", attention_inputs(features, memory, positions))["conditioned_feats"]

    def pointer_positions(self, offsets: FloatArray) -> FloatArray:
        """As `Stages.pointer_positions`."""
        return self.run("pointer_tpos", {"normalized_diffs": offsets})["pointer_pos"]

    def _open(self, path: Path, graph: Graph, threads: int) -> Any:
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError(
                "Running the exported graphs needs onnxruntime, which this Python lacks.",
                f"Run {install_extra('sam2')}.",
            ) from error
        if not path.is_file():
            raise UsageError(f"There is no {str(path)!r}.", NEXT_STEP)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors have no common root
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UsageError(f"{str(path)!r} is not a graph that ONNX Runtime takes ({reason}).", NEXT_STEP) from error
        for found, wanted in zip(
            (session.get_inputs(), session.get_outputs()), ports(graph, self.constants.sizes), strict=True
        ):
            _check(path, found, wanted)
        return session


def decoder_inputs(
    features: Features, conditioned: FloatArray, points: FloatArray, labels: NDArray[np.int32]
) -> dict[str, NDArray[Any]]:
    """The mask decoder's inputs by name."""
    return {
        "feats0": features.feats0,
        "feats1": features.feats1,
        "feats2_cond": conditioned,
        "input_points": points[None, None],
        "input_labels": labels[None, None],
    }


def memory_inputs(features: Features, decoded: DecodedFrame, *, binarize: bool) -> dict[str, NDArray[Any]]:
    """The memory encoder's inputs by name."""
    return {
        "feats2": features.feats2,
        "high_res_mask": decoded.high_res_mask,
        "object_score_logits": np.full((1, 1), decoded.object_score, np.float32),
        "binarize": np.array(float(binarize), np.float32),
    }


def attention_inputs(features: Features, memory: FloatArray, positions: FloatArray) -> dict[str, NDArray[Any]]:
    """Memory attention's inputs by name."""
    return {
        "current_vision_features": rows(features.feats2)[:, None],
        "current_vision_position_embeddings": rows(features.positions)[:, None],
        "memory": memory[:, None],
        "memory_pos": positions[:, None],
    }


def rows(image: FloatArray) -> FloatArray:
    """[1, C, h, w] to [h * w, C]."""
    return np.ascontiguousarray(image.reshape(image.shape[1], -1).T)


def _check(path: Path, found: Any, wanted: tuple[GraphPort, ...]) -> None:
    kinds = {"tensor(float)": "float32", "tensor(int32)": "int32"}
    seen = [(port.name, tuple(port.shape), kinds.get(port.type, port.type)) for port in found]
    if seen != [(port.name, port.shape, port.dtype) for port in wanted]:
        raise UsageError(f"{str(path)!r} has inputs or outputs {seen}, not the tracker's.", NEXT_STEP)
