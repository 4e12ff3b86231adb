"""A mask decoder of a few ops with the published one's inputs, outputs and fault, and a photo to tap."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.core.arrays import Array
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.sam2.image_path.ports import DECODER_PORTS
from harness.sam2.image_path.workload import Workload
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import INPUT_NAMES
from harness.sam2.shared.prompt import PromptConstants
from harness.sam2.shared.published_files import CONSTANTS
from tests.arrays import f32
from tests.published_layout import published_constants

CHANNELS, SIDE = 8, 4
SHAPES = {
    "image_embeddings": (1, 8, 4, 4),
    "sparse_prompt": (1, 2, 8),
    "feat_s1": (1, 2, 8, 8),
    "feat_s0": (1, 1, 16, 16),
}
PHOTO = np.full((20, 16, 3), 90, np.uint8)
FIRST, SECOND = "sam2_tiny_mask_decoder_fp16.tflite", "sam2_tiny_mask_decoder_v2_fp16.tflite"
ENCODER = "sam2_tiny_image_encoder_v2_fp16.tflite"
FACE = (4.0, 5.0)


def decoder(*, batch: bool) -> Model:
    """Three masks out of an embedding to which a positional constant is added: in rank 2, where planted phones read row
    0 of it everywhere, or with the batch dimension kept, in rank 4."""
    rng = np.random.default_rng(0)
    graph = GraphBuilder()
    image, prompt, middle, fine = (graph.input(name, SHAPES[name]) for name in INPUT_NAMES)
    places = f32(rng.normal(size=(CHANNELS, SIDE * SIDE)) * 2)
    shape = (1, 1, *places.shape) if batch else places.shape
    placed = graph.binary("ADD", graph.reshape(image, shape), graph.constant(places.reshape(shape)))
    flat, tokens = graph.reshape(placed, (1, places.size)), graph.reshape(prompt, (1, 2 * CHANNELS))
    of_image, of_prompt = (f32(rng.normal(size=(3 * 256, width)) / 8) for width in (places.size, 2 * CHANNELS))
    logits = graph.binary("ADD", graph.fully_connected(flat, of_image), graph.fully_connected(tokens, of_prompt))
    masks = graph.reshape(logits, (1, 3, 16, 16))
    graph.output(graph.binary("ADD", masks, fine), "pred_masks")
    scores = f32(rng.normal(size=(3, 128)) / 8)
    graph.output(graph.fully_connected(graph.reshape(middle, (1, 128)), scores), "iou_scores")
    return graph.build()


def encoder() -> Model:
    """Features of an image [1, 3, 64, 64]: means of its tiles."""
    graph = GraphBuilder()
    image = graph.input("image", (1, 3, 16 * SIDE, 16 * SIDE))
    grey = graph.fully_connected(graph.reshape(graph.transpose(image, (0, 2, 3, 1)), (256, 48)), _mixing(8, 48))
    graph.output(graph.reshape(graph.fully_connected(grey, _mixing(1, 8)), (1, 1, 16, 16)), "fine")
    rows = graph.reshape(grey, (16, 128))
    graph.output(graph.reshape(graph.fully_connected(rows, _mixing(8, 128)), SHAPES["feat_s1"]), "middle")
    graph.output(graph.reshape(graph.fully_connected(rows, _mixing(8, 128)), SHAPES["image_embeddings"]), "coarse")
    return graph.build()


def _mixing(rows: int, columns: int) -> Array:
    return f32(np.random.default_rng(rows).normal(size=(rows, columns)) / columns**0.5)


def prompt_constants() -> PromptConstants:
    """Those of `CHANNELS`, drawn."""
    rng = np.random.default_rng(1)
    posmat, embedded, padding = (f32(rng.normal(size=s)) for s in ((2, CHANNELS // 2), (4, CHANNELS), (CHANNELS,)))
    return PromptConstants(posmat, embedded, padding, 16 * SIDE)


def published(folder: Path) -> Path:
    """The encoder and both decoders as files of the published names and layout, in `folder`."""
    for name, model in ((FIRST, decoder(batch=False)), (SECOND, decoder(batch=True)), (ENCODER, encoder())):
        (folder / name).write_bytes(model.to_bytes())
    (folder / CONSTANTS).write_bytes(published_constants(prompt_constants()))
    return folder


def workload(folder: Path, *, random: bool = True) -> Workload:
    """The decoder of rank 2 in `folder`, tapped on the face."""
    rng = np.random.default_rng(1)
    features = {name: f32(rng.normal(size=SHAPES[name])) for name in INPUT_NAMES if name != "sparse_prompt"}
    path = folder / "first.tflite"
    path.write_bytes(decoder(batch=False).to_bytes())
    where = "random weights, seed 0" if random else "weights of a folder"
    made = Workload(path, {}, PHOTO, FACE, where, random, DECODER_PORTS, features=features, prompt=prompt_constants())
    made.inputs.update(made.inputs_at(Tap.at(*FACE)))
    return made
