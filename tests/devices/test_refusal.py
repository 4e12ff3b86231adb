"""Refusals in the runtime's words, made one reason and a list of ops."""

from __future__ import annotations

import pytest

from harness.devices.refusal import dynamic_tensor, explain_refusal, first_words, grouped, shader_fault

NOISE = (
    "INFO: [environment.cc:36] Creating LiteRT environment with options\n"
    "ERROR: [litert/compiler/plugin/compiler_plugin.cc:259] Could not load shared library libx.so\n"
)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (
            "E0000 00:00:1795821114.335399    9593 delegate_webgpu.cc:478] Failed to create litert::Kernel: "
            "INVALID_ARGUMENT: Shape mismatch: {bhwc, {576, 1}} vs {bhwc, {1, 576}}\n"
            "ERROR: Failed to initialize kernel.\n"
            "ERROR: Restored original execution plan after delegate application failure.\n",
            "Shape mismatch: {bhwc, {576, 1}} vs {bhwc, {1, 576}}",
        ),
        ("ERROR: [model_load.cc:316] Variable tensors not yet supported.\n", "Variable tensors not yet supported"),
        (
            "WARNING: Attempting to use a delegate that only supports static-sized tensors with a graph that has "
            "dynamic-sized tensors (tensor#187 is a dynamic-sized tensor).\n",
            "it has tensors whose size is known only when it runs",
        ),
        (
            "ERROR: squeeze.cc:70 a == 1 was not true.\nERROR: Node number 0 (SQUEEZE) failed to prepare.\n",
            "squeeze.cc:70 a == 1 was not true. Node number 0 (SQUEEZE) failed to prepare",
        ),
        ("ERROR: Failed to apply delegate.\n", "Failed to apply delegate"),
    ],
    ids=["status", "placed", "dynamic", "kernel", "none better"],
)
def test_the_most_telling_line_of_the_log_is_the_reason(log: str, why: str) -> None:
    assert explain_refusal("Failed to do it", NOISE + log) == (f"Failed to do it ({why})", ())


def test_a_log_that_tells_nothing_adds_nothing() -> None:
    assert explain_refusal("Failed to do it.", NOISE) == ("Failed to do it", ())


def test_refused_ops_are_grouped_with_each_reason_once() -> None:
    lines = [
        "RESHAPE: Tensor dimensions must be less than 5. layer/a;14",
        "RESHAPE: Tensor dimensions must be less than 5. layer/a;15",
        "SLICE: Operation is not supported.",
        "CONV_2D: Tensor type(INT16) is not supported. unet/conv",
        "RESHAPE: Tensor type(INT16) is not supported. other",
        "TRANSPOSE: Permutation for transpose is invalid.",
        "DEQUANTIZE:",
    ]
    assert grouped(lines) == [
        "RESHAPE (rank over 4, 2 tensors; type INT16)",
        "SLICE",
        "CONV_2D (type INT16)",
        "TRANSPOSE (Permutation for transpose is invalid)",
        "DEQUANTIZE",
    ]


def test_what_the_file_shows_is_grouped_likewise() -> None:
    lines = [
        "RESHAPE: tensor 'a' has rank 5, over 4",
        "RESHAPE: tensor 'b' has rank 5, over 4",
        "RESHAPE: tensor 'c' has type INT64",
        "CUSTOM: no delegate knows custom op 'Mine'",
        "IF: control flow stays on the CPU",
    ]
    assert grouped(lines) == [
        "RESHAPE (rank 5, 2 tensors; type INT64)",
        "CUSTOM (no delegate knows custom op 'Mine')",
        "IF (control flow stays on the CPU)",
    ]


def test_ops_of_one_kind_that_are_refused_for_the_same_reason_are_one_line() -> None:
    lines = ["SVDF #1: not supported", "SVDF #3: rank 5", "SVDF #5: not supported", "ADD: not supported", "IF #7:"]
    assert grouped(lines) == ["SVDF #1, #5 (not supported)", "SVDF #3 (rank 5)", "ADD (not supported)", "IF #7"]


def test_the_tensor_of_unknown_size_is_the_last_that_was_told() -> None:
    line = "WARNING: … a graph that has dynamic-sized tensors (tensor#{} is a dynamic-sized tensor).\n"
    assert dynamic_tensor(line.format(3) + line.format(-1)) == -1
    assert dynamic_tensor(NOISE) is None


def test_of_what_a_runtime_said_the_first_two_sentences_are_kept() -> None:
    said = "range is [0, 1). Was 3.Tensor 33 has invalid parameters.range is [0, 1). Was 3.Tensor 36 has them too."
    assert first_words(said) == "range is [0, 1). Was 3. Tensor 33 has invalid parameters"
    assert first_words("tflite/util.cc Bytes overflowed.Tensor 0 is invalid.") == (
        "tflite/util.cc Bytes overflowed. Tensor 0 is invalid"
    )
    assert first_words("kernels/squeeze.cc:70 a was not true.Node number 0 (SQUEEZE) failed to prepare.") == (
        "kernels/squeeze.cc:70 a was not true. Node number 0 (SQUEEZE) failed to prepare"
    )


def test_a_shader_that_did_not_compile_is_told_with_its_error() -> None:
    log = (
        "E0000 00:00:1.4 1 environment.cc:105] Validation error: Error while parsing WGSL: :32:12 error: cannot assign "
        "'vec4<f32>' to 'vec4<f16>'\n  dst = x;\n"
    )
    assert shader_fault(log) == (
        "The runtime's log holds a shader compilation error, so some ops may not have run at all: "
        "cannot assign 'vec4<f32>' to 'vec4<f16>'."
    )
    assert shader_fault("E0000 00:00:1.4 1 gl.cc:7] Failed to compile shader: no memory.\n").endswith(
        ": Failed to compile shader: no memory."
    )
    assert shader_fault("INFO: # of threads to compile kernels = 0\n") == ""
