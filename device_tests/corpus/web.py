"""What LiteRT.js 2.5.3 on Chromium's software GPU makes of the corpus, where it is not what the host's delegate does.

It is the same delegate, so most bugs are there and are named alike. But a browser tells of shaders that do not compile,
LiteRT.js has no tensors of bool, and there are no infinities in float16 on that GPU.
"""

from __future__ import annotations

from collections.abc import Mapping

from device_tests.corpus.bug import NOW, Bug
from harness.devices.refusal import COMPLAINED

WEB = "web"
Named = tuple[tuple[int, str, str], ...]

_NO_BOOL = "Element type BOOL is not supported"

REFUSED: Mapping[str, str] = {
    "int32_constant_vector": f"{COMPLAINED}Error while parsing WGSL",
    "select_by_row": _NO_BOOL,
    "steps_at_rounded_values": _NO_BOOL,
    "grouped_convolution": f"{COMPLAINED}Binding size for [Buffer (unlabeled)] is zero",
    "space_to_depth_batch": f"{COMPLAINED}Error while parsing WGSL",
    "depth_to_space_batch": f"{COMPLAINED}Error while parsing WGSL",
    "cumsum_batch_of_one": f"{COMPLAINED}Error while parsing WGSL",
    "cumsum_axis_outside": f"{COMPLAINED}Error while parsing WGSL",
    "one_hot_rank_3": "the GPU delegate refuses ONE_HOT",
    "one_hot_of_given_values": "the GPU delegate refuses ONE_HOT",
    "pad_int32": f"{COMPLAINED}Error while parsing WGSL",
    "pad_int32_with_value": f"{COMPLAINED}Error while parsing WGSL",
}
"""How the refusal begins, by the bug's name."""

OTHERWISE: Mapping[str, Named] = {
    # -1e9 becomes NaN where the sum is stored, not where it is read.
    "softmax_mask": ((0, "ADD", "overflow"),),
    "mask_out_of_range": ((0, "ADD", "overflow"), (2, "PAD", "kernel")),
    "power_of_negative": (),
    "narrow_input": (),
    # Shaders compute in float32 there, which holds the number.
    "pad_beyond_half": (),
    "harmful_underflow": (),
    # A kernel may read 16 textures there, so that each of two stretches of the chain is too much.
    "many_operands": ((23, "ADD", "limits"), (47, "ADD", "limits")),
}

UNSTEADY = frozenset({"convolution_then_scale", "padded_then_pooled", "scaled_then_convolution", "channels_then_sum"})
"""What was never written may differ between two runs there, and no run that is read inside is wrong: unresolved, named
as on the host, or the ops around it are named together as those whose results differ."""


def culprits_on_web(bug: Bug) -> Named:
    """What is to be named, of a model that is not refused."""
    return OTHERWISE.get(bug.name, bug.culprits if NOW in bug.broken else ())
