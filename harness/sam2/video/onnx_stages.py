"""The exported graphs on ONNX Runtime: numpy in, numpy out, no torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError, install_extra
from harness.sam2.video.contract import CORRECTING, GRAPHS, FloatArray, Graph, GraphPort, ports
from harness.sam2.video.published import NEXT_STEP, Ports, check_file, check_ports, load_constants, sizes_of
from harness.sam2.video.stages import DecodedFrame, Features

Record = Callable[[Graph, dict[str, Any]], None]
"""Told of every run: the graph and its inputs."""


class OnnxStages:
    """The graphs in a folder that `harness sam2 export-video` wrote, or as they were published.

    Raises `UsageError` for a folder without them, a graph that ONNX Runtime does not load, one whose inputs and
    outputs are not the model card's, and constants that are not the tracker's.
    """

    def __init__(self, folder: Path, threads: int = 0, record: Record | None = None) -> None:
        self._record = record
        files: dict[Graph, Path] = {graph: folder / "onnx" / f"{graph}.onnx" for graph in (*GRAPHS, CORRECTING)}
        self.takes_mask = files[CORRECTING].exists()
        """Whether the folder has the graph for that, which the published ones do not."""
        if not self.takes_mask:
            del files[CORRECTING]
        for path in files.values():
            check_file(path)
        self._sessions = {graph: _open(path, threads) for graph, path in files.items()}
        seen = {graph: _ports(session) for graph, session in self._sessions.items()}
        self.constants = load_constants(folder, sizes_of(seen))
        for graph, path in files.items():
            check_ports(path, graph, seen[graph], self.constants.sizes)

    def run(self, graph: Graph, inputs: dict[str, Any]) -> dict[str, FloatArray]:
        """One graph on inputs by name."""
        if self._record is not None:
            self._record(graph, inputs)
        wanted = {port.name: port.shape for port in ports(graph, self.constants.sizes)[1]}
        try:
            made = dict(zip(wanted, self._sessions[graph].run(list(wanted), inputs), strict=True))
        except Exception as error:  # the runtime's errors have no common root
            raise UsageError(f"ONNX Runtime does not run {graph} ({_first_line(error)}).", NEXT_STEP) from error
        for name, shape in wanted.items():
            sizes = made[name].shape
            if len(sizes) != len(shape) or any(
                size != want for size, want in zip(sizes, shape, strict=True) if isinstance(want, int)
            ):
                raise UsageError(f"{graph} gave {name!r} as {list(sizes)}, not {list(shape)}.", NEXT_STEP)
        return made

    def encode(self, pixels: FloatArray) -> Features:
        """As `Stages.encode`."""
        made = self.run("vision_encoder", {"pixel_values": pixels})
        names = ("feats0", "feats1", "feats2", "feats2_no_mem", "vision_pos_embed")
        return Features(*(made[name] for name in names))

    def decode(
        self,
        features: Features,
        conditioned: FloatArray,
        points: FloatArray,
        labels: NDArray[np.int32],
        mask: FloatArray | None = None,
    ) -> DecodedFrame:
        """As `Stages.decode`."""
        inputs = decoder_inputs(features, conditioned, points, labels)
        made = self.run("mask_decoder", inputs) if mask is None else self.run(CORRECTING, inputs | {"mask_input": mask})
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


def _open(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError(
            "Running the exported graphs needs onnxruntime, which this Python lacks.",
            f"Run {install_extra('sam2')}.",
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's errors have no common root
        raise UsageError(
            f"{str(path)!r} is not a graph that ONNX Runtime takes ({_first_line(error)}).", NEXT_STEP
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _ports(session: Any) -> Ports:
    """Inputs and outputs as the runtime tells of them; a size that the graph leaves open is a word."""
    kinds = {"tensor(float)": "float32", "tensor(int32)": "int32"}

    def port(told: Any) -> GraphPort:
        shape = tuple(size if isinstance(size, int) else str(size) for size in told.shape)
        # A type of another name than the contract's is told as it is.
        return GraphPort(told.name, shape, kinds.get(told.type, told.type))

    inputs, outputs = session.get_inputs(), session.get_outputs()
    return tuple(port(told) for told in inputs), tuple(port(told) for told in outputs)


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
