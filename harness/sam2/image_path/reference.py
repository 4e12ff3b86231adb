"""What `transformers` itself makes of a photo and taps, and what the rewritten modules make of them in torch.

The yardstick for the converted models. This module imports torch. Import it lazily.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.contract import CARD, DecoderVariant
from harness.sam2.shared.image import Photo, image_features, preprocess
from harness.sam2.shared.modules.decoder import build_decoder
from harness.sam2.shared.modules.encoder import build_encoder, image_side
from harness.sam2.shared.weights import prompt_constants

if TYPE_CHECKING:
    from transformers import Sam2Model

FEATURES = ("image_embeddings", "feat_s1", "feat_s0")


def references(
    model: Sam2Model, photo: Photo, taps: Sequence[dict[str, Any]], variant: DecoderVariant = CARD
) -> dict[str, NDArray[np.floating]]:
    """Everything by name, float32 unless said otherwise. The three of `FEATURES`, and for tap number i (as
    `Tap.to_json` has it) `prompt.i` [1, tokens, C] in float64 (see `exact_prompt`), `masks.i` [1, 3, h, w] and
    `scores.i` [1, 3]: from `Sam2Model`, with points scaled as its processor does. The same with `eager.` before it:
    from the rewritten modules, encoder to decoder, in torch."""
    size = image_side(model)
    pixels = torch.from_numpy(preprocess(photo, size))
    found: dict[str, NDArray[np.floating]] = dict(image_features(model, photo))
    constants = prompt_constants(model)
    with torch.inference_mode():
        eager = build_encoder(model)(pixels)
        found |= {f"eager.{name}": tensor.numpy() for name, tensor in zip(FEATURES, eager, strict=True)}
        decoder = build_decoder(model, variant)
        embeddings = [torch.from_numpy(found[name]) for name in reversed(FEATURES)]
        for number, told in enumerate(taps):
            tap = Tap.from_json(told)
            asked = upstream_prompt(tap, photo.shape, size)
            whole = model(image_embeddings=embeddings, **asked)
            found[f"prompt.{number}"] = exact_prompt(model, asked)
            found[f"masks.{number}"] = whole.pred_masks[:, 0].numpy()
            found[f"scores.{number}"] = whole.iou_scores[:, 0].numpy()
            sparse = tap.encode(photo.shape, constants)
            found[f"eager.prompt.{number}"] = sparse
            masks, scores = decoder(eager[0], torch.from_numpy(sparse), eager[1], eager[2])
            found[f"eager.masks.{number}"], found[f"eager.scores.{number}"] = masks.numpy(), scores.numpy()
    return {name: np.ascontiguousarray(array) for name, array in found.items()}


def upstream_prompt(tap: Tap, photo_shape: tuple[int, ...], size: int) -> dict[str, Any]:
    """A tap as arguments of `Sam2Model`, scaled to model space as `Sam2Processor` does it."""
    scale = torch.tensor([size / photo_shape[1], size / photo_shape[0]])
    asked: dict[str, Any] = {}
    points = [*tap.positive, *tap.negative]
    if points:
        asked["input_points"] = (torch.tensor(points) * scale)[None, None]
        asked["input_labels"] = torch.tensor([1] * len(tap.positive) + [0] * len(tap.negative))[None, None]
    if tap.box is not None:
        asked["input_boxes"] = (torch.tensor(tap.box).reshape(2, 2) * scale).reshape(1, 1, 4)
    return asked


def exact_prompt(model: Sam2Model, asked: dict[str, Any]) -> NDArray[np.float64]:
    """The sparse prompt [1, tokens, C] that `Sam2Model` makes of `upstream_prompt`'s arguments, but in float64.

    In float32, upstream's result has several roundings of an angle of many radians, which differ from CPU to CPU.
    """
    encoder = copy.deepcopy(model.prompt_encoder).double()
    points, boxes = (
        None if given is None else given.double() for given in map(asked.get, ("input_points", "input_boxes"))
    )
    with torch.no_grad():
        sparse, _ = encoder(points, asked.get("input_labels"), boxes, None)
    prompt: NDArray[np.float64] = sparse[:, 0].numpy()
    return prompt
