"""What counts against a result, by what a browser really wrote."""

from __future__ import annotations

import pytest

from harness.devices.log_lines import LONGEST
from harness.devices.web.evidence import SHORTEST, evidence_in

STDERR = (
    "[409:409:1130/020932.612938:ERROR:third_party/blink/renderer/modules/webgpu/gpu_device.cc:367] GPUDevice: "
    '"Texture size ([Extent3D width:1048576]) exceeded maximum texture size ([Extent3D width:8192]).\\n - While '
    'validating [TextureDescriptor].\\n"'
)
PAGE = (
    "ERROR: uncaptured GPU error: GPUValidationError: Texture size ([Extent3D width:1048576]) exceeded maximum texture "
    "size ([Extent3D width:8192]).  - While validating [TextureDescriptor]."
)
TEXTURE = "Texture size ([Extent3D width:1048576]) exceeded maximum texture size ([Extent3D width:8192])"

HARMLESS = """\
[1:1:1130/020451.947477:WARNING:gpu/command_buffer/service/webgpu_decoder_impl.cc:1801] No Vulkan backend.
[1:1:1130/020451.947477:ERROR:gpu/command_buffer/service/dawn_instance.cc:92] vkCreateInstance: Found no drivers!
[1:1:1130/020451.947477:WARNING:sandbox/policy/linux/sandbox_linux.cc:405] InitializeSandbox() called with threads.
[1:5:1130/020214.885522:ERROR:gpu/ipc/client/command_buffer_proxy_impl.cc:285] ContextResult::kTransientFailure
WARNING: [npu_registry.cc:34] NPU accelerator could not be loaded and registered: kLiteRtStatusErrorInvalidArgument.
INFO: Failed to load OpenCL library with dlopen: dynamic linking not enabled. Trying ICD loader.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
I1130 02:04:04.875000  736560 delegate_webgpu.cc:243] Created a WebGPU environment with provided device.
"""


@pytest.mark.parametrize("line", [STDERR, PAGE], ids=["stderr", "page"])
def test_an_error_of_the_gpu_counts_whoever_passes_it_on(line: str) -> None:
    assert evidence_in(HARMLESS + line + "\n").complaints == (TEXTURE,)


def test_one_error_told_twice_is_one() -> None:
    found = evidence_in(f"{STDERR}\n{PAGE}\n")
    assert found.reason == f"the browser complained, so that its outputs are no result: {TEXTURE}"


def test_further_errors_are_counted() -> None:
    found = evidence_in(f"{PAGE}\nERROR: Failed to allocate tensors.\n")
    assert found.complaints == (TEXTURE, "Failed to allocate tensors") and found.reason.endswith("(and 1 more)")


def test_what_every_run_says_is_no_evidence() -> None:
    found = evidence_in(HARMLESS)
    assert found.complaints == () and found.reason == ""


def test_a_long_complaint_is_cut() -> None:
    (said,) = evidence_in("ERROR: uncaptured GPU error: GPUValidationError: " + "x" * (2 * LONGEST)).complaints
    assert said == "x" * SHORTEST


def test_what_follows_from_another_error_is_not_quoted() -> None:
    later = (
        "ERROR: uncaptured GPU error: GPUValidationError: [Invalid CommandBuffer] is invalid due to a previous error."
    )
    assert evidence_in(f"{later}\n{PAGE}\n").complaints == (TEXTURE,)
    assert evidence_in(later).complaints == ("[Invalid CommandBuffer] is invalid due to a previous error",)


def test_a_run_that_failed_inside_the_runtime_is_told_by_its_log_alone() -> None:
    said = "ERROR: [compiled_model.cc:146] Failed to invoke\nERROR: Node number 5 (LITERT_WEBGPU) failed to invoke.\n"
    assert evidence_in(said).complaints == ("Failed to invoke", "failed to invoke")
