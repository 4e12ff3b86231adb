"""What a log says of a limit: the sentences of each release as they came, and what is none."""

from __future__ import annotations

import pytest

from harness.devices.refusal import COMPLAINED
from harness.localize.probe.excess import Excess, limit_exceeded, limits_exceeded, refused_beyond

# ai-edge-litert 2.1.3, 2.1.4, 2.1.5, 2.1.6, 2.2.0 and 2.3.0 say these in the same words.
DISPATCH = """\
INFO: [cpu_registry.cc:75] XNNPACK CPU accelerator registered.
E0000 00:00:1795828443.412558   11558 environment.cc:105] Validation error: Dispatch workgroup count Z (65544) exceeds \
max compute workgroups per dimension (65535).
 - While encoding [ComputePassEncoder (unlabeled)].DispatchWorkgroups(1, 1, 65544).
 - While finishing [CommandEncoder (unlabeled)].
E0000 00:00:1795828443.412601   11558 environment.cc:105] Validation error: [Invalid CommandBuffer] is invalid due to \
a previous error.
"""
BINDING = """\
E0000 00:00:1795828443.412558   11558 environment.cc:105] Validation error: Binding size (134217744) of [Buffer \
(unlabeled)] is larger than the maximum storage buffer binding size (134217728).
 - While validating entries[0] as a Buffer.
"""
# Chromium, on its console and on stderr.
SUPPORTED = (
    "Buffer size (268435457) exceeds the max buffer size limit (268435456). This adapter supports a higher "
    "maxBufferSize of 4294967296, which can be specified in requiredLimits when calling requestDevice()."
)
TEXTURE = (
    "[1:1:1126/101112.131415:ERROR:gpu.cc(1)] Error: Texture size ([Extent3D width:16384, height:1, "
    "depthOrArrayLayers:1]) exceeded maximum texture size ([Extent3D width:8192, height:8192, "
    "depthOrArrayLayers:256]).\n"
)
# As the page passes it on, and as stderr has it beside.
COMPLAINT = (
    "ERROR: uncaptured GPU error: GPUValidationError: The number of sampled textures (17) in the Compute stage exceeds "
    'the maximum per-stage limit (16).  - While validating compute stage ([ShaderModule], "main")\n'
)
ON_STDERR = (
    "[1:1:1130/052921.267161:ERROR:third_party/blink/renderer/modules/webgpu/gpu_device.cc:367] GPUDevice: "
    '"The number of sampled textures (17) in the Compute stage exceeds the maximum per-stage limit (16).'
    '\\n - While validating compute stage ([ShaderModule])"\n'
)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            DISPATCH,
            Excess(
                "Dispatch workgroup count Z (65544) exceeds max compute workgroups per dimension (65535)", 65544, 65535
            ),
        ),
        (
            BINDING,
            Excess(
                "Binding size (134217744) of [Buffer (unlabeled)] is larger than the maximum storage buffer binding "
                "size (134217728)",
                134217744,
                134217728,
            ),
        ),
        (
            SUPPORTED,
            Excess("Buffer size (268435457) exceeds the max buffer size limit (268435456)", 268435457, 268435456),
        ),
        (
            TEXTURE,
            Excess(
                "Texture size ([Extent3D width:16384, height:1, depthOrArrayLayers:1]) exceeded maximum texture size "
                "([Extent3D width:8192, height:8192, depthOrArrayLayers:256])",
                16384,
                8192,
            ),
        ),
        (
            COMPLAINT,
            Excess(
                "The number of sampled textures (17) in the Compute stage exceeds the maximum per-stage limit (16)",
                17,
                16,
            ),
        ),
        # Numbers that do not bear out the words tell no place to look at.
        ("Error: Binding size (5) exceeds the maximum (9).", Excess("Binding size (5) exceeds the maximum (9)")),
        ("Error: Binding size (0) exceeds the maximum (0).", Excess("Binding size (0) exceeds the maximum (0)")),
    ],
)
def test_a_limit_is_read_with_what_was_asked_for_and_what_is_allowed(log: str, said: Excess) -> None:
    assert limit_exceeded(log) == said


@pytest.mark.parametrize(
    "log",
    [
        "",
        "INFO: Dispatch workgroup count Z (65535), max compute workgroups per dimension (65535)\n",
        "Warning: maxDynamicUniformBuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit dynamic "
        "offset allocation limit.\n",
        "E0000 environment.cc:105] Validation error: [Invalid CommandBuffer] is invalid due to a previous error.\n",
        "ERROR: Tensor dimensions must be less than 5\n",
        "INFO: the exceeding of a maximum is spoken of elsewhere\n",
    ],
)
def test_other_lines_name_no_limit(log: str) -> None:
    assert limit_exceeded(log) is None


def test_each_limit_counts_once_however_often_and_by_whomever_it_is_told() -> None:
    every = limits_exceeded(ON_STDERR + COMPLAINT + DISPATCH + COMPLAINT)
    assert [(found.asked, found.most) for found in every] == [(17, 16), (65544, 65535)]


@pytest.mark.parametrize(
    ("reason", "sizes"),
    [
        (f"{COMPLAINED}{TEXTURE.split('Error: ')[1].strip()} (and 2 more)", [(16384, 8192), (17, 16)]),
        (f"{COMPLAINED}Error while parsing WGSL: :1:1 error", []),
        (TEXTURE, []),
        ("the GPU delegate took only a part of the model", []),
    ],
)
def test_a_refusal_names_a_limit_where_its_reason_is_a_complaint_of_one(
    reason: str, sizes: list[tuple[int, int]]
) -> None:
    found = refused_beyond(reason, TEXTURE + COMPLAINT)
    assert [(each.asked, each.most) for each in found] == sizes


def test_a_texture_is_told_by_its_sides() -> None:
    words = [found.plain for found in limits_exceeded(TEXTURE + DISPATCH)]
    assert words == [
        "a texture of 16,384 x 1, where the device takes up to 8,192 x 8,192",
        "Dispatch workgroup count Z (65544) exceeds max compute workgroups per dimension (65535)",
    ]


def test_the_first_of_several_counts() -> None:
    found = limit_exceeded(DISPATCH + BINDING)
    assert found is not None
    assert found.asked == 65544
