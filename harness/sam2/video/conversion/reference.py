"""What `transformers` itself makes of a clip: the yardstick for the loop.

This module imports torch. Import it lazily.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo, preprocess
from harness.sam2.video.scenario import Event

SCORE = 4.0
"""The object score that `settle_scores` aims at, above or below 0."""
SETTLING_ROUNDS = 5


def propagate(
    model: Any, frames: Sequence[Photo], events: Sequence[Event], *, backward: bool = False
) -> Iterator[tuple[int, dict[int, NDArray[np.float32]], dict[int, float]]]:
    """Frame number, mask logits at the frames' size [H, W] and object score of every object, frame after frame: from
    `propagate_in_video_iterator`, scaled by torch as the processor does (which wants torchvision): nothing of ours is
    on both sides of a comparison. A frame corrected by an event comes once, corrected.

    Needs memory for all frames: upstream keeps them, and every output, until the session ends.
    """
    from transformers import Sam2VideoInferenceSession

    side = int(model.config.image_size)
    pixels = torch.from_numpy(np.concatenate([preprocess(frame, side) for frame in frames]))
    height, width = frames[0].shape[:2]
    session = Sam2VideoInferenceSession(video=pixels, video_height=height, video_width=width, dtype=torch.float32)
    start, last = events[0].frame, 0 if backward else len(frames) - 1
    step = -1 if backward else 1
    fresh = {event.frame: event for event in events if not event.again}
    again = {event.frame: event for event in events if event.again}
    number = start
    while (last - number) * step >= 0:
        # As far as the next frame that is asked about: up to it, or with it where it is asked about again.
        stops = [at - step for at in fresh if (at - number) * step > 0]
        stops += [at for at in again if (at - number) * step >= 0]
        stop = min(stops, key=lambda at: abs(at - number), default=last)
        if event := fresh.get(number):
            _ask(session, event, frames[0].shape, side)
        found = model.propagate_in_video_iterator(session, number, abs(stop - number), reverse=backward)
        for output in found:
            corrected = again.get(output.frame_idx)
            if corrected is not None:
                _ask(session, corrected, frames[0].shape, side)
                output = model(session, frame_idx=output.frame_idx, reverse=backward)
            scaled = interpolate(output.pred_masks.float(), (height, width), mode="bilinear", align_corners=False)
            masks = {i: scaled[row, 0].numpy() for row, i in enumerate(output.object_ids)}
            logits = output.object_score_logits.reshape(-1)
            scores = {i: float(logits[row]) for row, i in enumerate(output.object_ids)}
            yield output.frame_idx, masks, scores
        number = stop + step


def _ask(session: Any, event: Event, shape: tuple[int, ...], side: int) -> None:
    """What `Sam2VideoProcessor` does with points and boxes already scaled to the model's side."""
    for identity, tap in event.prompts.items():
        places, labels = _upstream_order(tap, shape, side)
        index = session.obj_id_to_idx(identity)
        points = torch.tensor(places, dtype=torch.float32)[None, None]
        inputs = {"point_coords": points, "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None]}
        session.add_point_inputs(index, event.frame, inputs)
        session.remove_mask_inputs(index, event.frame)
    session.obj_with_new_inputs = list(event.prompts)


def _upstream_order(tap: Tap, shape: tuple[int, ...], side: int) -> tuple[list[tuple[float, float]], list[int]]:
    """Upstream puts a box's corners before the points."""
    places, labels = tap.labelled(shape, side)
    corners = 0 if tap.box is None else 2
    cut = len(places) - corners
    return [*places[cut:], *places[:cut]], [*labels[cut:], *labels[:cut]]


def settle_scores(model: Any, frames: Sequence[Photo], events: Sequence[Event], hidden: Collection[int]) -> bool:
    """Teach the object score of a random model to be below 0 on the frames `hidden`, on which nothing is to be seen.

    Without this a random model never says that its object is gone, or always. Only the last layer of the score is
    changed, by least squares on what it reads; several rounds, since what the model says feeds back through memory.
    Gives whether the scores come out as wanted on the frames it was settled on.
    """
    last = model.mask_decoder.pred_obj_score_head.proj_out
    identity, tap = next(iter(events[0].prompts.items()))
    asked = [Event(0, {identity: tap})]  # one object says enough, in half the time
    read: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, given: read.append(given[0].detach().reshape(-1)))
    last.weight.data.zero_()
    last.bias.data.fill_(SCORE)  # the first round has every object there
    rows: list[Tensor] = []
    wanted: list[float] = []
    try:
        for _ in range(SETTLING_ROUNDS):
            said = []
            for number, _, scores in propagate(model, frames, asked):
                target = -SCORE if number in hidden else SCORE
                said += [score * target > 0 for score in scores.values()]
                wanted += [target] * len(scores)
            rows, read[:] = [*rows, *read], []
            if all(said) and len(rows) > len(said):
                return True
            given = torch.cat([torch.stack(rows), torch.ones(len(rows), 1)], dim=1).double()
            damping = 1e-3 * given.square().sum() / given.shape[1] * torch.eye(given.shape[1], dtype=torch.float64)
            goal = torch.tensor(wanted, dtype=torch.float64)
            found = torch.linalg.solve(given.T @ given + damping, given.T @ goal).float()
            last.weight.data.copy_(found[None, :-1])
            last.bias.data.copy_(found[-1:])
    finally:
        hook.remove()
    return False


def score_layer(model: Any) -> dict[str, NDArray[np.float32]]:
    """The last layer of the model's object score, `weight` and `bias`."""
    last = model.mask_decoder.pred_obj_score_head.proj_out
    return {"weight": last.weight.detach().numpy(), "bias": last.bias.detach().numpy()}


def set_score_layer(model: Any, values: dict[str, NDArray[np.float32]]) -> None:
    """Give the model's object score the last layer that `score_layer` read."""
    last = model.mask_decoder.pred_obj_score_head.proj_out
    last.weight.data.copy_(torch.from_numpy(values["weight"]))
    last.bias.data.copy_(torch.from_numpy(values["bias"]))
