"""What a log says of a limit: the sentences of each release as they came, and what is none."""

from __future__ import annotations

import pytest

from harness.localize.probe.excess import Excess, limit_exceeded

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
                "([Extent3D width:8192, height:8192, depthOrArrayLayers:256])"
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


def test_the_first_of_several_counts() -> None:
    found = limit_exceeded(DISPATCH + BINDING)
    assert found is not None
    assert found.asked == 65544
