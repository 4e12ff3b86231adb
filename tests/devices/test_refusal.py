"""Refusals in the runtime's words, made one reason and a list of ops."""

from __future__ import annotations

import pytest

from harness.devices.refusal import (
    dynamic_tensor,
    explain_refusal,
    first_words,
    grouped,
    last_words,
    shader_fault,
)

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


REFUSED = "Following operations are not supported by GPU delegate:\n"


@pytest.mark.parametrize(
    ("reason", "log", "said", "ops"),
    [
        # Ops come first, then a custom op that is lacking, then the runtime's own reason.
        (
            "no",
            f"{REFUSED}ADD: rank 5\nMUL:\n3 operations will run\nERROR: Encountered unresolved custom op: Mine.\n",
            "the GPU delegate refuses ADD (rank 5), MUL",
            ("ADD: rank 5", "MUL:"),
        ),
        (
            "no",
            "ERROR: Encountered unresolved custom op: Mine.\nSee instructions: https://…\nERROR: why\n",
            "the runtime has no custom op 'Mine'",
            ("CUSTOM: the runtime has no custom op 'Mine'",),
        ),
        (
            "Encountered unresolved custom op: My.Op. See instructions: https://…",
            "",
            "the runtime has no custom op 'My.Op'",
            ("CUSTOM: the runtime has no custom op 'My.Op'",),
        ),
        ("no.", "ERROR: why.\n", "no. (why)", ()),
        ("no: why.", "ERROR: why.\n", "no: why", ()),
        ("no..", "", "no", ()),
    ],
)
def test_a_refusal_is_explained_by_the_first_that_tells(reason: str, log: str, said: str, ops: tuple[str, ...]) -> None:
    assert explain_refusal(reason, log) == (said, ops)


UNKNOWN_SIZE = "it has tensors whose size is known only when it runs"
STATUS = "E0000 00:00:1.5 1 a.cc:1] Failed: INTERNAL: {}\n"


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (STATUS.format("first.") + STATUS.format("last.") + "ERROR: other\n", "last"),
        (STATUS.format("why").replace("E0000", "F0000") + "ERROR: other\n", "other"),
        ("E0000 00:00:1.5 1 a.cc:1] no status\nERROR: other\n", "other"),
        ("E0000 00:00:1.5 1 a.cc:1] NOT_FOUND: it\n", "it"),
        ("E0000 00:00:1.5 1 a.cc:1] AB: it\n", ""),
        ("graph that has dynamic-sized tensors (tensor#-1 is\nERROR: other\n", UNKNOWN_SIZE),
        ("ERROR: first\nERROR: last.\nERROR: Failed to apply delegate\n", "last"),
        ("ERROR: Node number 3 (ADD) failed.\n", "Node number 3 (ADD) failed"),
        ("ERROR: zero\nERROR: one\nERROR: Node number 3 (ADD) failed.\n", "one Node number 3 (ADD) failed"),
        ("ERROR: Node number 3 (ADD) failed\nERROR: last\n", "last"),
        ("ERROR: Failed to build it.\nERROR: [a.cc:1] placed.\n", "placed"),
        ("ERROR: [a.cc:1] one\nERROR: [a.cc:1] two\n", "two"),
        ("ERROR: [a.cc:1] dlopen failed\nERROR: Failed to load one\nERROR: Failed to load two\n", "Failed to load two"),
        ("ERROR: [a.cc:1] no Accelerator\n", ""),
        ("WARNING: beware\n", ""),
    ],
)  # fmt: skip
def test_of_a_log_the_most_telling_line_is_taken(log: str, why: str) -> None:
    assert explain_refusal("no", log) == (f"no ({why})" if why else "no", ())


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("", ""),
        ("INFO: nothing\n", ""),
        ("ERROR: one\nERROR: [a.cc:1] two\n", "one"),
        ("FATAL: one \nERROR: two\nINFO: three\n", "two"),
        ("F0000 00:00:1.5 1 a.cc:1] Check failed: x \nplain\n", "Check failed: x"),
        ("E0000 00:00:1.5 1 a.cc:1] an error\n", ""),
        ("  terminate called after throwing\n", "terminate called after throwing"),
        ("a.cc:1 Check failed: y\n", "a.cc:1 Check failed: y"),
        ("ERROR: " + "x" * 201 + "\n", "x" * 200),
        ("FATAL: [abc] one\n", ""),
    ],
)
def test_the_last_words_are_the_last_that_sound_fatal(log: str, words: str) -> None:
    assert last_words(log) == words


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], []),
        (["ADD: a.cc. t1", "ADD: a.cc"], ["ADD (a.cc)"]),  # one tensor is no number worth telling
        (["ADD: why. t1", "ADD: why. t2", "ADD: why. t3"], ["ADD (why, 3 tensors)"]),
        (["ADD: Not supported op ADD"], ["ADD"]),
        (["ADD: OP is supported, but tensor type/shape isn't compatible."], ["ADD (its type or shape)"]),
        ([f"ADD: tensor '{t}' has no static shape" for t in "ab"], ["ADD (no static shape, 2 tensors)"]),
        (["ADD: tensor 'a\nb' has rank 6, over 4"], ["ADD (rank 6)"]),
        (["ADD"], ["ADD"]),
        (["ADD #1: x", "MUL #1: x", "ADD #2: x. t"], ["ADD #1 (x)", "MUL #1 (x)", "ADD #2 (x)"]),
    ],
)  # fmt: skip
def test_each_op_is_grouped_with_what_it_is_refused_for(lines: list[str], said: list[str]) -> None:
    assert grouped(lines) == said


def test_the_first_of_several_shader_faults_is_told_in_200_characters() -> None:
    line = "Error while parsing WGSL: :1:2 error: {}.\n"
    assert shader_fault(line.format("first") + line.format("last")).endswith(": first.")
    assert shader_fault("failed to compile the program " + "x" * 300).endswith(
        f": failed to compile the program {'x' * (200 - 30)}."
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ""),
        ("One.", "One"),
        ("One\n\nTwo\nThree", "One Two"),
        ("x" * 301, "x" * 300),
        ("abcd.efg", "abcd. efg"),
        ("abc.efg", "abc.efg"),
        ("kernel.cc failed.", "kernel.cc failed"),
        ("kernel.h failed. . ", "kernel.h failed"),
    ],
)
def test_first_words_end_at_the_second_sentence(text: str, said: str) -> None:
    assert first_words(text) == said
