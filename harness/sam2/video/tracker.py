"""The tracking loop, one frame at a time. What it keeps does not grow with the clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.core.errors import UsageError
from harness.sam2.shared.clicks import Tap
from harness.sam2.shared.image import Photo, check_photo, preprocess, upsample_mask
from harness.sam2.shared.prompt import PADDING
from harness.sam2.video.bank import Memory, ObjectMemory, Padding, assemble, chosen_padding, to_bfloat16
from harness.sam2.video.contract import FloatArray
from harness.sam2.video.stages import DecodedFrame, Features, Stages

MAX_OBJECTS = 64
"""The most objects that one tracker follows."""
NOTHING_TO_TRACK = "There is nothing to track."

Memories = Literal["each", "together"]
"""What a prompt for one object does to the memories of the others on its frame. each: nothing, as in Meta's predictor
since 1.1. together: they are encoded from binary masks too, and anew where a frame is corrected, as `transformers` has
it."""


@dataclass(frozen=True)
class Tracked:
    """Every object on one frame."""

    frame: int
    shape: tuple[int, int]
    """Height and width of the frame."""
    objects: dict[int, DecodedFrame]

    def logits(self, identity: int) -> FloatArray:
        """The mask's logits at the frame's size, [H, W]: from low resolution in one step, as upstream scales them. By
        way of the model's side, edges would lie elsewhere."""
        return upsample_mask(self.objects[identity].low_res_mask[0, 0], self.shape)

    def mask(self, identity: int) -> NDArray[np.bool_]:
        """Where the object is, [H, W]; nowhere when it is not there."""
        return self.logits(identity) > 0


@dataclass(frozen=True)
class _Present:
    """The frame just tracked, kept for further clicks on it."""

    tracked: Tracked
    features: Features
    conditioned: dict[int, FloatArray]


class Tracker:
    """Follows objects through frames that come one by one.

    `seed` takes the first frame and at least one prompt, `step` each later one, `refine` further clicks on the frame
    just tracked. Objects are named by integers of the caller's. A prompt in `step` starts an object, or anchors one
    anew: that frame is looked at without memory, and is remembered as a conditioning frame for good. A prompt in
    `refine` corrects what memory and frame together gave. `total` is the number of frames in the clip, if known.
    With `backward`, frames come from the seed towards the beginning. `padding`: by default marked where the graphs read
    the mark; raises `UsageError` as `chosen_padding`. With `refeed`, a correction is told the mask that it corrects
    where the graphs take one, as in Meta's predictor; `transformers` does not.
    """

    def __init__(
        self,
        stages: Stages,
        *,
        total: int | None = None,
        backward: bool = False,
        padding: Padding | None = None,
        memories: Memories = "each",
        refeed: bool = True,
    ) -> None:
        self.stages = stages
        self.total, self.backward, self.memories, self.refeed = total, backward, memories, refeed
        self.padding = chosen_padding(padding, stages.constants)
        self._memories: dict[int, ObjectMemory] = {}
        self._positions: FloatArray | None = None
        self._present: _Present | None = None

    def seed(self, image: Photo, prompts: Mapping[int, Tap], frame: int = 0) -> Tracked:
        """The first frame, number `frame`, uint8 [H, W, 3]. Forgets whatever was tracked before.

        Raises `UsageError` without a prompt, for one outside the frame, and for too many objects.
        """
        if not prompts:
            raise UsageError(NOTHING_TO_TRACK, "Give at least one point or box on the first frame.")
        self._memories, self._present = {}, None
        return self._track(image, prompts, frame)

    def step(self, image: Photo, prompts: Mapping[int, Tap] | None = None) -> Tracked:
        """The next frame, of the same size as the first. Raises `UsageError` for another size, before `seed`, and as
        `seed`."""
        before = self._require().tracked
        if image.shape[:2] != before.shape:
            height, width = image.shape[:2]
            raise UsageError(
                f"Frame {before.frame + 1} has {width} x {height} pixels, the first {before.shape[1]} x "
                f"{before.shape[0]}.",
                "Give frames of one size.",
            )
        return self._track(image, prompts or {}, before.frame + (-1 if self.backward else 1))

    def refine(self, prompts: Mapping[int, Tap]) -> Tracked:
        """Further clicks on the frame just tracked: each prompt replaces what was asked of that object there. Raises
        as `seed`, and before it."""
        present = self._require()
        frame = present.tracked.frame
        points = self._points(prompts, present.tracked.shape)
        decoded, conditioned = dict(present.tracked.objects), dict(present.conditioned)
        for identity, asked in points.items():
            conditioned.setdefault(identity, present.features.feats2_no_mem)
            before = decoded.get(identity) if self.refeed and self.stages.takes_mask else None
            mask = None if before is None else before.low_res_mask
            decoded[identity] = self.stages.decode(present.features, conditioned[identity], *asked, mask)
            self._memories.setdefault(identity, ObjectMemory())
        anchored = {i for i, at in conditioned.items() if at is present.features.feats2_no_mem}
        again = set(points)
        if points and self.memories == "together":
            # A conditioning frame that nobody asked about again stays as it was.
            again |= conditioned.keys() - anchored
        tracked = replace(present.tracked, objects=decoded)
        self._present = _Present(tracked, present.features, conditioned)
        for identity in [identity for identity in decoded if identity in again]:
            self._remember(present.features, decoded[identity], identity, frame, True, identity in anchored)
        return tracked

    def _track(self, image: Photo, prompts: Mapping[int, Tap], frame: int) -> Tracked:
        check_photo(image)
        shape = (image.shape[0], image.shape[1])
        points = self._points(prompts, shape)
        features = self.stages.encode(preprocess(image, self.stages.constants.sizes.side))
        decoded: dict[int, DecodedFrame] = {}
        conditioned: dict[int, FloatArray] = {}
        nothing = (np.zeros((1, 2), np.float32), np.full(1, PADDING, np.int32))
        for identity in [*self._memories, *(new for new in points if new not in self._memories)]:
            if identity in points:
                conditioned[identity] = features.feats2_no_mem
            else:
                conditioned[identity] = self._recall(features, identity, frame)
            asked = points.get(identity, nothing)
            decoded[identity] = self.stages.decode(features, conditioned[identity], *asked)
        for identity, found in decoded.items():
            self._memories.setdefault(identity, ObjectMemory())
            asked_here = identity in points
            prompted = bool(points) if self.memories == "together" else asked_here
            self._remember(features, found, identity, frame, prompted, asked_here)
        self._present = _Present(Tracked(frame, shape, decoded), features, conditioned)
        return self._present.tracked

    def _recall(self, features: Features, identity: int, frame: int) -> FloatArray:
        assert self._positions is not None
        bank = assemble(
            self._memories[identity],
            frame,
            self.stages,
            self._positions,
            total=self.total,
            backward=self.backward,
            padding=self.padding,
        )
        return self.stages.attend(features, *bank)

    def _remember(
        self, features: Features, found: DecodedFrame, identity: int, frame: int, prompted: bool, conditioning: bool
    ) -> None:
        tokens, self._positions = self.stages.memorize(features, found, binarize=prompted)
        memory = Memory(to_bfloat16(tokens), found.pointer)
        self._memories[identity].remember(frame, memory, self.stages.constants, conditioning=conditioning)

    def _points(
        self, prompts: Mapping[int, Tap], shape: tuple[int, int]
    ) -> dict[int, tuple[FloatArray, NDArray[np.int32]]]:
        if len(self._memories.keys() | prompts.keys()) > MAX_OBJECTS:
            raise UsageError(f"More than {MAX_OBJECTS} objects are too many.", "Track them in turns.")
        found = {}
        for identity, tap in prompts.items():
            places, labels = tap.labelled(shape, self.stages.constants.sizes.side)
            found[identity] = np.array(places, np.float32), np.array(labels, np.int32)
        return found

    def _require(self) -> _Present:
        if self._present is None:
            raise UsageError("Nothing is tracked yet.", "Give the first frame to `seed`.")
        return self._present
