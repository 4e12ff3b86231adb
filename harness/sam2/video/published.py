"""Graphs and constants that somebody else published, held to the model card before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.core import safe_json
from harness.core.errors import UsageError
from harness.sam2.shared.image import IMAGENET_MEAN, IMAGENET_STD
from harness.sam2.video.contract import Constants, Graph, GraphPort, Sizes, constants_text, finite_float32, ports

LARGEST_GRAPH = 1 << 30
"""Bytes of one .onnx file; the largest of the published ones has some 150 million."""
MOST_NESTED = 16
MOST_FIELDS = 1_000_000
"""Of one message of an .onnx file: nodes and tensors of a graph; the published ones have thousands."""
NEXT_STEP = (
    "Give a folder with onnx/ and constants.json: the published repository as it is, or what `harness sam2 "
    "export-video` writes."
)

_TABLE_ROWS = 7
_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "external"},
}
"""Where tensors are in an ONNX file: for each message its fields that hold others (onnx.proto)."""


def check_file(path: Path) -> None:
    """Raise `UsageError` for a graph that is missing, too large, no ONNX file, or keeps weights in another file: the
    runtime would open whatever file it names."""
    if not path.is_file():
        raise UsageError(f"There is no {str(path)!r}.", NEXT_STEP)
    size = path.stat().st_size
    if size > LARGEST_GRAPH:
        raise UsageError(f"{str(path)!r} has {size:,} bytes, more than {LARGEST_GRAPH:,}.", NEXT_STEP)
    try:
        outside = _has_external(memoryview(path.read_bytes()), "model", 0)
    except (ValueError, IndexError) as error:
        raise UsageError(f"{str(path)!r} is not a graph that ONNX Runtime takes ({error}).", NEXT_STEP) from error
    if outside:
        raise UsageError(
            f"{str(path)!r} keeps weights in another file, which is not opened.",
            "Save it in one piece: onnx.save(onnx.load(OLD), NEW).",
        )


def _has_external(content: memoryview, message: str, depth: int) -> bool:
    if message == "external":
        return True
    if depth > MOST_NESTED * 4:
        raise ValueError(f"graphs nested more than {MOST_NESTED} deep")
    inner = _MESSAGES[message]
    return any(_has_external(part, inner[field], depth + 1) for field, part in _fields(content) if field in inner)


def _fields(content: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and bytes of each length-delimited field of a protocol buffer; others are passed over."""
    at = count = 0
    while at < len(content):
        key, at = _varint(content, at)
        count += 1
        if key < 8 or count > MOST_FIELDS:
            raise ValueError("it is no ONNX file" if key < 8 else f"it has more than {MOST_FIELDS:,} parts")
        kind = key & 7
        if kind == 0:
            _, at = _varint(content, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _varint(content, at)
            yield key >> 3, content[at : at + size]
            at += size
        else:
            raise ValueError("it is no ONNX file")
    if at != len(content):
        raise ValueError("it is cut off")


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("it is no ONNX file")


Ports = tuple[tuple[GraphPort, ...], tuple[GraphPort, ...]]


def sizes_of(seen: Mapping[Graph, Ports]) -> Sizes:
    """What the shapes of the graphs follow from; the card's where a graph leaves them open or lacks the port. Whether
    all of them agree, `check_ports` tells."""

    def size(graph: Graph, name: str, axis: int, default: int) -> int:
        shape = next((port.shape for port in seen[graph][0] if port.name == name), ())
        found = shape[axis] if axis < len(shape) else default
        return found if isinstance(found, int) else default

    card = Sizes()
    side = size("vision_encoder", "pixel_values", 2, card.side)
    channels = size("mask_decoder", "feats2_cond", 1, card.channels)
    deep = size("memory_attention", "memory", 2, card.memory_channels)
    if not (64 <= side <= 2048 and 1 <= deep <= channels <= 4096):
        return card
    sizes = Sizes(side, channels, deep)
    memory = size("memory_attention", "memory", 0, sizes.memory)
    return replace(sizes, blocks=max((memory - sizes.pointer_tokens) // sizes.tokens, 1))


def check_ports(path: Path, graph: Graph, seen: Ports, sizes: Sizes) -> None:
    """Raise `UsageError` for the first input or output that differs from the model card's. A size that the graph leaves
    open is taken, but for a shape's length; outputs that the card lacks are passed over."""
    for kind, found, wanted in zip(("input", "output"), seen, ports(graph, sizes), strict=True):
        named = {port.name: port for port in found}
        for port in wanted:
            got = named.pop(port.name, None)
            if got is None:
                names = ", ".join(repr(one.name) for one in found) or "none"
                raise UsageError(f"{str(path)!r} lacks the {kind} {port.name!r}; it has {names}.", NEXT_STEP)
            if got.dtype != port.dtype or not _fits(got.shape, port.shape):
                raise UsageError(
                    f"In {str(path)!r} the {kind} {port.name!r} is {got.dtype} {list(got.shape)}, on the model card "
                    f"{port.dtype} {list(port.shape)} for images of {sizes.side} pixels.",
                    NEXT_STEP,
                )
        if named and kind == "input":
            raise UsageError(f"{str(path)!r} has an input {next(iter(named))!r} that the model card lacks.", NEXT_STEP)


def _fits(found: tuple[int | str, ...], wanted: tuple[int | str, ...]) -> bool:
    if len(found) != len(wanted):
        return False
    return all(isinstance(have, str) or have == want for have, want in zip(found, wanted, strict=True))


def load_constants(folder: Path, sizes: Sizes) -> Constants:
    """constants.json of `folder`: this project's own form, or the published one. The published one's keys are found by
    what they hold: the temporal table by its shape, the normalization by a name with mean or std and three numbers;
    shapes are the graphs'. Raises `UsageError` where that is not unambiguous."""
    text, path = constants_text(folder)
    try:
        told = safe_json.loads(text)
    except ValueError as error:
        raise UsageError(f"{str(path)!r} is no JSON document ({error}).", NEXT_STEP) from error
    if isinstance(told, dict) and "schema" in told:
        return Constants.load(folder)
    leaves = dict(_leaves(told, ""))
    table = (_TABLE_ROWS, sizes.memory_channels)

    def is_table(name: str, values: NDArray[Any]) -> bool:
        return values.size == table[0] * table[1] and _thin(values.shape) in (_thin(table), (values.size,))

    def has(word: str) -> Callable[[str, NDArray[Any]], bool]:
        return lambda name, values: values.shape == (3,) and word in name.rsplit(".", 1)[-1].lower()

    temporal = _only(path, leaves, f"table of {table[0]} x {table[1]} numbers", is_table)
    for word, wanted in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        found = _only(path, leaves, f"{word} of three numbers", has(word))
        if not any(np.allclose(found, np.array(wanted) * unit, rtol=1e-3) for unit in (1, 255)):
            raise UsageError(
                f"In {str(path)!r} pixels have the {word} {found.tolist()}, in SAM 2.1 {list(wanted)}.", NEXT_STEP
            )
    try:
        rows = finite_float32(temporal.reshape(table))
    except ValueError as error:
        raise UsageError(f"{str(path)!r} does not hold the tracker's constants ({error}).", NEXT_STEP) from error
    return Constants(sizes, rows, f"the graphs in {str(folder)!r}", False, marks=False)


def _thin(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size > 1)


def _only(
    path: Path, leaves: Mapping[str, NDArray[Any]], what: str, fits: Callable[[str, NDArray[Any]], bool]
) -> NDArray[Any]:
    found = [name for name, values in leaves.items() if fits(name, values)]
    if len(found) != 1:
        names = ", ".join(repr(name) for name in list(leaves)[:30]) or "none"
        told = f"has no {what}" if not found else f"has more than one {what} ({', '.join(map(repr, found))})"
        raise UsageError(f"{str(path)!r} {told}; its keys are {names}.", NEXT_STEP)
    return leaves[found[0]]


def _leaves(told: Any, name: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every number and array of finite numbers by its keys, joined by dots; of other values an empty array."""
    if isinstance(told, dict):
        for key, value in told.items():
            yield from _leaves(value, f"{name}.{key}" if name else str(key))
        return
    try:
        values = np.array(told, np.float64)
    except (ValueError, TypeError, OverflowError):
        values = np.empty(0)
    yield name, values if np.isfinite(values).all() else np.empty(0)
