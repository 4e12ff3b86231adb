"""The five graphs of the video tracker: their names, shapes and types, and the constants the host needs beside them.

The published export is `square-zero-labs/sam2.1-tiny-video-onnx`; `ports` of `Sizes()` are its tables.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from harness.core import safe_json
from harness.core.errors import UsageError
from harness.sam2.shared.files import write_bytes
from harness.sam2.shared.image import IMAGENET_MEAN, IMAGENET_STD

Graph = Literal[
    "vision_encoder",
    "mask_decoder",
    "memory_encoder",
    "memory_attention",
    "pointer_tpos",
    "mask_decoder_with_prompt",
]
EXPORTED: tuple[Graph, ...] = get_args(Graph)
CORRECTING: Graph = "mask_decoder_with_prompt"
"""The mask decoder told of the mask that a click corrects; not among the published graphs, and done without where it is
not there."""
GRAPHS: tuple[Graph, ...] = tuple(graph for graph in EXPORTED if graph != CORRECTING)
"""The published five."""

Rewritten = Literal["vision_encoder", "mask_decoder", "memory_encoder", "memory_attention"]
"""The graphs that are also there for LiteRT; what is left of the fifth is a table for the host."""
REWRITTEN: tuple[Rewritten, ...] = get_args(Rewritten)

REWRITTEN_PORTS: dict[Rewritten, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "vision_encoder": (("image",), ("feats2", "feats1", "feats0")),
    "mask_decoder": (
        ("image_embeddings", "sparse_prompt", "feat_s1", "feat_s0"),
        ("masks", "scores", "object_score", "pointers"),
    ),
    "memory_encoder": (("feats2", "mask"), ("memory",)),
    "memory_attention": (("features", "memory", "memory_pos", "bias"), ("conditioned",)),
}
"""Their inputs and outputs in order, float32."""

FloatArray = NDArray[np.float32]

NO_OBJECT_SCORE = -1024.0
"""The logit of every pixel of a mask whose object is not there."""

MASK_LIMIT = 32.0
"""A previous mask's logits are kept within this before they are a prompt, as in Meta's predictor."""

MARK = -10000.0
"""A `memory_pos` at or below half of this in its first channel marks a token as padding: it is not attended. Published
graphs have no such mark; tokens without it mean the same to both."""

PADDED = -10000.0
"""What is added to the scores of a padding token; float16 holds it."""

CONSTANTS = "constants.json"
LARGEST_FILE = 4 << 20
STEP = "Export the graphs again with `harness sam2 export-video`."


@dataclass(frozen=True)
class Sizes:
    """What shapes follow from; the defaults are the published model's."""

    side: int = 1024
    """Pixels of the square image."""
    channels: int = 256
    memory_channels: int = 64
    blocks: int = 7
    """Frame memories in one memory bank."""
    pointers: int = 16
    """Object pointers in it."""

    @property
    def grid(self) -> int:
        """Side of the deepest feature map."""
        return self.side // 16

    @property
    def tokens(self) -> int:
        """Tokens of one frame's memory, and of the deepest feature map."""
        return self.grid * self.grid

    @property
    def splits(self) -> int:
        """Memory tokens that one object pointer makes."""
        return self.channels // self.memory_channels

    @property
    def pointer_tokens(self) -> int:
        """Memory tokens of all object pointers; the last ones of the bank, and without rotary position."""
        return self.pointers * self.splits

    @property
    def memory(self) -> int:
        """Tokens of a memory bank; 28736 in the published model."""
        return self.blocks * self.tokens + self.pointer_tokens


@dataclass(frozen=True)
class GraphPort:
    """An input or output of a graph. A word in the shape is a dynamic dimension."""

    name: str
    shape: tuple[int | str, ...]
    dtype: Literal["float32", "int32"] = "float32"


def ports(graph: Graph, sizes: Sizes) -> tuple[tuple[GraphPort, ...], tuple[GraphPort, ...]]:
    """Inputs and outputs of a graph, in order."""
    side, grid, width, deep = sizes.side, sizes.grid, sizes.channels, sizes.memory_channels
    feats0 = GraphPort("feats0", (1, width // 8, 4 * grid, 4 * grid))
    feats1 = GraphPort("feats1", (1, width // 4, 2 * grid, 2 * grid))

    def deepest(name: str) -> GraphPort:
        return GraphPort(name, (1, width, grid, grid))

    high = GraphPort("high_res_mask", (1, 1, side, side))
    match graph:
        case "vision_encoder":
            pixels = GraphPort("pixel_values", (1, 3, side, side))
            deep_ones = (deepest("feats2"), deepest("feats2_no_mem"), deepest("vision_pos_embed"))
            return (pixels,), (feats0, feats1, *deep_ones)
        case "mask_decoder" | "mask_decoder_with_prompt":
            points, labels = GraphPort("input_points", (1, 1, "N", 2)), GraphPort("input_labels", (1, 1, "N"), "int32")
            told = (
                GraphPort("iou", (1, 1)),
                GraphPort("object_score_logits", (1, 1, 1)),
                GraphPort("object_pointer", (1, 1, width)),
            )
            low = GraphPort("low_res_mask", (1, 1, 4 * grid, 4 * grid))
            before = () if graph == "mask_decoder" else (GraphPort("mask_input", (1, 1, 4 * grid, 4 * grid)),)
            return (feats0, feats1, deepest("feats2_cond"), points, labels, *before), (low, high, *told)
        case "memory_encoder":
            frame = (
                GraphPort("memory_tokens", (sizes.tokens, 1, deep)),
                GraphPort("memory_pos", (sizes.tokens, 1, deep)),
            )
            return (deepest("feats2"), high, GraphPort("object_score_logits", (1, 1)), GraphPort("binarize", ())), frame
        case "memory_attention":
            current = (
                GraphPort("current_vision_features", (sizes.tokens, 1, width)),
                GraphPort("current_vision_position_embeddings", (sizes.tokens, 1, width)),
            )
            bank = (GraphPort("memory", (sizes.memory, 1, deep)), GraphPort("memory_pos", (sizes.memory, 1, deep)))
            return (*current, *bank), (deepest("conditioned_feats"),)
        case "pointer_tpos":
            return (GraphPort("normalized_diffs", ("P",)),), (GraphPort("pointer_pos", ("P", deep)),)


@dataclass(frozen=True)
class Constants:
    """What the loop needs beside the graphs."""

    sizes: Sizes
    temporal: FloatArray
    """[7, 64]: row r - 1 is added to the position of a memory r frames back, the last row to a conditioning one's."""
    provenance: str
    is_random: bool
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    marks: bool = True
    """Whether memory attention leaves out tokens with `MARK`; published graphs do not."""

    def save(self, folder: Path) -> None:
        """Write constants.json into `folder`. Raises `StorageError`."""
        told = {
            "schema": 1,
            "weights": self.provenance,
            "random_weights": self.is_random,
            "memory_temporal_positional_encoding": self.temporal.tolist(),
            "normalization": {"mean": list(self.mean), "std": list(self.std), "rescale": 1 / 255},
            "shapes": {
                **asdict(self.sizes),
                "grid": self.sizes.grid,
                "memory_tokens": self.sizes.tokens,
                "pointer_tokens": self.sizes.pointer_tokens,
                "memory": self.sizes.memory,
            },
            "no_object_score": NO_OBJECT_SCORE,
            "padding_mark": MARK,
            "memory_storage": "bfloat16",
        }
        write_bytes(folder / CONSTANTS, (json.dumps(told, indent=1) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Constants:
        """Read constants.json. Raises `UsageError` when it is missing or says something else."""
        content, path = constants_text(folder)
        try:
            told: dict[str, Any] = safe_json.loads(content)
            if told["schema"] != 1:
                raise ValueError(f"its schema is {told['schema']!r}, and this release reads 1")
            shapes, normal = told["shapes"], told["normalization"]
            sizes = Sizes(**{name: int(shapes[name]) for name in Sizes.__dataclass_fields__})
            if not (64 <= sizes.side <= 2048 and 1 <= sizes.blocks <= 64 and 1 <= sizes.pointers <= 256):
                raise ValueError(f"the shapes {shapes} are out of bounds")
            temporal = finite_float32(np.array(told["memory_temporal_positional_encoding"], np.float64))
            if temporal.shape != (sizes.blocks, sizes.memory_channels):
                raise ValueError(f"the temporal table has shape {list(temporal.shape)}")
            mean, std = (tuple(float(v) for v in normal[key]) for key in ("mean", "std"))
            if not (len(mean) == len(std) == 3 and np.allclose([mean, std], [IMAGENET_MEAN, IMAGENET_STD], rtol=1e-3)):
                raise ValueError(f"pixels have the mean {mean} and the std {std}, which are not SAM 2.1's")
            return cls(sizes, temporal, str(told["weights"]), bool(told["random_weights"]), mean, std)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise UsageError(f"{str(path)!r} does not hold the tracker's constants ({error!r}).", STEP) from error


def finite_float32(values: NDArray[Any]) -> FloatArray:
    """The values as float32. Raises `ValueError` where one is not finite, or beyond float32."""
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(values, np.float32)
    if bad := int(rounded.size - np.isfinite(rounded).sum()):
        raise ValueError(f"{bad:,} values of the temporal table are not finite float32")
    return rounded


def constants_text(folder: Path) -> tuple[bytes, Path]:
    """The bytes of constants.json in `folder`, and its path. Raises `UsageError` when it is missing, no file, or larger
    than `LARGEST_FILE`."""
    path = folder / CONSTANTS
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE >> 20} MiB")
        return path.read_bytes(), path
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read ({error.strerror}).", STEP) from error
    except ValueError as error:
        raise UsageError(f"{str(path)!r} does not hold the tracker's constants ({error!r}).", STEP) from error
