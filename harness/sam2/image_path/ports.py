"""What the image path's models call their inputs and outputs: ours by name, those of other people's files by place.

A file that somebody else converted calls its tensors what its converter liked. Inputs are taken by their place, since
two of the decoder's have as many elements, and every place is held to the shape that it must have; outputs by their
shapes, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.graph.model import Graph, Model, indices
from harness.sam2.shared.contract import INPUT_NAMES, OUTPUT_NAMES

FLAT_ORDER = ("image_embeddings", "sparse_prompt", "feat_s0", "feat_s1")
"""How a decoder with a single input has them in it, each in its own order of elements, end to end."""

STRIDE = 16
"""Pixels of the model's image for one place of the image embeddings, on each axis."""

MOST_SIDE = 4096
"""The largest image that a file may ask for, in pixels on a side; the published encoder takes 1024."""

Shape = tuple[int, ...]
_STEP = "Give the published files, or models of the same inputs and outputs."


@dataclass(frozen=True)
class Ports:
    """The names of a model's inputs and outputs by ours. With `flat`, its one input is made of those, end to end."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    flat: tuple[str, ...] = ()

    @classmethod
    def ours(cls, inputs: Sequence[str], outputs: Sequence[str]) -> Ports:
        """Those of a model that was converted here."""
        return cls({name: name for name in inputs}, {name: name for name in outputs})

    def feed(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """The model's inputs by its own names, out of `values` by ours."""
        if self.flat:
            (name,) = self.inputs.values()
            return {name: np.concatenate([values[part].reshape(1, -1) for part in self.flat], axis=1)}
        return {theirs: values[ours] for ours, theirs in self.inputs.items()}

    def named(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's outputs by our names."""
        return {ours: outputs[theirs] for ours, theirs in self.outputs.items()}


DECODER_PORTS = Ports.ours(INPUT_NAMES, OUTPUT_NAMES)
"""Those of every decoder that is converted here."""


@dataclass(frozen=True)
class ImageSizes:
    """The sizes that an encoder and its decoder have in common: 256 channels of 64 x 64 in the published ones."""

    channels: int
    side: int
    """Of the image embeddings."""

    @property
    def image(self) -> int:
        """Side of the image that the encoder takes, in pixels."""
        return STRIDE * self.side

    @property
    def features(self) -> dict[str, Shape]:
        """The shapes of the decoder's image inputs, by our names."""
        c, s = self.channels, self.side
        return {
            "image_embeddings": (1, c, s, s),
            "feat_s1": (1, c // 4, 2 * s, 2 * s),
            "feat_s0": (1, c // 8, 4 * s, 4 * s),
        }

    @property
    def answers(self) -> dict[str, Shape]:
        """The shapes of the decoder's outputs, by our names."""
        return {"pred_masks": (1, 3, 4 * self.side, 4 * self.side), "iou_scores": (1, 3)}


@dataclass(frozen=True)
class BoundModel:
    """A model whose inputs and outputs were recognized."""

    ports: Ports
    sizes: ImageSizes
    tokens: int = 0
    """Of a decoder: how long a prompt it takes; the last token is padding."""


@dataclass(frozen=True)
class _Place:
    name: str
    shape: Shape


def bind_decoder(model: Model, name: str) -> BoundModel:
    """The inputs and outputs of a mask decoder, `name` being the file's in sentences.

    Inputs by place: image_embeddings [1, C, s, s], sparse_prompt [1, T, C], feat_s1 [1, C/4, 2s, 2s] and feat_s0
    [1, C/8, 4s, 4s]; or one of all four in the order of `FLAT_ORDER`, [1, n], for a prompt of two tokens. Outputs by
    shape: mask logits [1, 3, 4s, 4s] and scores [1, 3]. All float32.
    Raises `UsageError` with the first shape that does not fit.
    """
    what = f"The decoder {name!r}"
    inputs, outputs = _places(model, what)
    if len(inputs) == 1:
        return _bind_flat(inputs[0], outputs, what)
    if len(inputs) != len(INPUT_NAMES):
        raise UsageError(f"{what} has {len(inputs)} inputs, not {len(INPUT_NAMES)} or a flat one.", _STEP)
    sizes = _sizes(inputs[0].shape, f"{what}: its input 0")
    wanted: dict[str, Shape] = {**sizes.features, "sparse_prompt": (1, -1, sizes.channels)}
    for number, (ours, place) in enumerate(zip(INPUT_NAMES, inputs, strict=True)):
        if not _fits(place.shape, wanted[ours]):
            raise UsageError(
                f"{what}: its input {number} has shape {list(place.shape)}, where {ours} has {_words(wanted[ours])}.",
                _STEP,
            )
    ports = Ports(
        {ours: place.name for ours, place in zip(INPUT_NAMES, inputs, strict=True)},
        _by_shape(outputs, sizes.answers, what),
    )
    return BoundModel(ports, sizes, inputs[INPUT_NAMES.index("sparse_prompt")].shape[1])


def _bind_flat(place: _Place, outputs: Sequence[_Place], what: str) -> BoundModel:
    """A decoder of one input: its masks tell the side, and that and the input's length the channels."""
    tokens = 2
    masks = next((o.shape for o in outputs if len(o.shape) == 4), ())
    side = masks[2] // 4 if masks else 0
    channels = math.prod(place.shape) // (4 * side**2 + tokens)
    sizes = ImageSizes(channels, side)
    parts = {**sizes.features, "sparse_prompt": (1, tokens, channels)}
    length = sum(math.prod(shape) for shape in parts.values())
    if not _possible(sizes) or place.shape != (1, length):
        of = f"masks {list(masks)}" if masks else "no masks"
        raise UsageError(
            f"{what}: its one input has shape {list(place.shape)}, which with {of} is not image features and a prompt "
            f"of {tokens} tokens end to end.",
            _STEP,
        )
    ports = Ports({"flat": place.name}, _by_shape(outputs, sizes.answers, what), FLAT_ORDER)
    return BoundModel(ports, sizes, tokens)


def bind_encoder(model: Model, name: str) -> BoundModel:
    """The input [1, 3, 16s, 16s] and the outputs of an image encoder, which are shaped as the decoder's image inputs
    and told apart by that; all float32. Raises `UsageError` as `bind_decoder`."""
    what = f"The encoder {name!r}"
    inputs, outputs = _places(model, what)
    if len(inputs) != 1:
        raise UsageError(f"{what} has {len(inputs)} inputs, not the image alone.", _STEP)
    shape = inputs[0].shape
    side = shape[2] // STRIDE if len(shape) == 4 else 0
    if side < 1 or shape != (1, 3, STRIDE * side, STRIDE * side) or shape[2] > MOST_SIDE:
        raise UsageError(
            f"{what}: its input has shape {list(shape)}, not [1, 3, S, S] with a multiple of {STRIDE} up to "
            f"{MOST_SIDE} for S.",
            _STEP,
        )
    embeddings = next((o.shape for o in outputs if len(o.shape) == 4 and o.shape[2:] == (side, side)), None)
    if embeddings is None:
        found = ", ".join(str(list(o.shape)) for o in outputs)
        raise UsageError(f"{what} gives {found}, none of them embeddings [1, C, {side}, {side}].", _STEP)
    sizes = _sizes(embeddings, f"{what}: its embeddings")
    return BoundModel(Ports({"image": inputs[0].name}, _by_shape(outputs, sizes.features, what)), sizes)


def _places(model: Model, what: str) -> tuple[list[_Place], list[_Place]]:
    """Inputs and outputs in the order of the file's subgraph, which is the runtime's."""
    graph = model.graph()
    raw = model.root.subgraphs[graph.subgraph]
    return (
        _in_order(graph, indices(raw.inputs), {port.tensor: port.name for port in graph.inputs}, f"{what}: its input"),
        _in_order(
            graph, indices(raw.outputs), {port.tensor: port.name for port in graph.outputs}, f"{what}: its output"
        ),
    )


def _in_order(graph: Graph, order: Sequence[int], names: Mapping[int, str], what: str) -> list[_Place]:
    found = []
    for number, index in enumerate(order):
        tensor = graph.tensors[index]
        if index not in names:
            raise UsageError(f"{what} {number}, {tensor.name!r}, is not in the file's signature.", _STEP)
        if list(names.values()).count(names[index]) > 1:
            raise UsageError(f"{what}s have one name twice, {names[index]!r}.", _STEP)
        if tensor.type != "FLOAT32" or tensor.shape is None:
            shape = "no static shape" if tensor.shape is None else f"shape {list(tensor.shape)}"
            raise UsageError(f"{what} {number} is {tensor.type} with {shape}, not FLOAT32 of a static one.", _STEP)
        found.append(_Place(names[index], tensor.shape))
    return found


def _sizes(shape: Shape, what: str) -> ImageSizes:
    """The sizes of image embeddings of that shape."""
    sizes = ImageSizes(shape[1], shape[2]) if len(shape) == 4 else ImageSizes(0, 0)
    if not _possible(sizes) or shape != (1, sizes.channels, sizes.side, sizes.side):
        raise UsageError(f"{what} has shape {list(shape)}, which is none of image embeddings [1, C, s, s].", _STEP)
    return sizes


def _possible(sizes: ImageSizes) -> bool:
    return 0 < sizes.channels <= 1 << 16 and sizes.channels % 8 == 0 and 0 < sizes.image <= MOST_SIDE


def _fits(shape: Shape, wanted: Shape) -> bool:
    """Whether a shape is the wanted one; -1 there is any number from 2 on."""
    return len(shape) == len(wanted) and all(
        have == want or (want == -1 and have >= 2) for have, want in zip(shape, wanted, strict=True)
    )


def _words(shape: Shape) -> str:
    return str(["T" if size == -1 else size for size in shape]).replace("'T'", "T")


def _by_shape(outputs: Sequence[_Place], wanted: Mapping[str, Shape], what: str) -> dict[str, str]:
    """The file's names of its outputs by ours."""
    found = {ours: [o.name for o in outputs if o.shape == shape] for ours, shape in wanted.items()}
    if len(outputs) != len(wanted) or any(len(names) != 1 for names in found.values()):
        have = ", ".join(str(list(o.shape)) for o in outputs)
        want = ", ".join(f"{ours} {list(shape)}" for ours, shape in wanted.items())
        raise UsageError(f"{what} gives {have or 'nothing'}, where {want} belong.", _STEP)
    return {ours: names[0] for ours, names in found.items()}
