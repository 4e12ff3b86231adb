"""Where the nodes run, from logs as runtimes write them: Android's builds, and the host's with and without the CPU."""

from __future__ import annotations

import pytest

from harness.core.job import Residency
from harness.devices.refusal import explain_refusal
from harness.devices.residency import (
    MESSAGE_BYTES,
    backend_of,
    other_backend,
    refused_and_cut,
    refused_ops,
    residency_of,
)

REPLACED = "INFO: Replacing {} out of {} node(s) with delegate ({}) node, yielding {} partitions for subgraph 0.\n"
REFUSED = (
    "ERROR: Following operations are not supported by GPU delegate:\n"
    "RESHAPE: Tensor dimensions must be less than 5. reshape_4\n"
    "TRANSPOSE: Permutation for transpose is invalid.\n"
)
LINES = (
    "RESHAPE: Tensor dimensions must be less than 5. reshape_4",
    "TRANSPOSE: Permutation for transpose is invalid.",
)
ENGAGED = "I0000 00:00:1.5 1 delegate_kernel.cc:984] Initializing WebGPU-based API from graph.\n"


def test_the_host_says_how_many_ops_go_where() -> None:
    log = REFUSED + "10 operations will run on the GPU, and the remaining 7 operations will run on the CPU.\n" + ENGAGED
    assert residency_of(log, True, shared=True) == Residency(False, 10, 17, 1, LINES)


def test_none_on_the_gpu_is_none() -> None:
    log = REFUSED + "No operations will run on the GPU, and all 3 operations will run on the CPU.\n"
    assert residency_of(log, True, shared=True) == Residency(False, 0, 3, 0, LINES)


@pytest.mark.parametrize(
    ("log", "full"), [(ENGAGED, True), ("INFO: Created TensorFlow Lite XNNPACK delegate.\n", False)]
)
def test_beside_the_cpu_the_runtime_s_own_word_needs_a_sign_of_the_gpu(log: str, full: bool) -> None:
    assert residency_of(log, True, shared=True) == Residency(full)


def test_what_the_cpu_s_own_delegate_took_is_not_the_gpu_s() -> None:
    log = REPLACED.format(8, 12, "LITERT_CL", 1) + REPLACED.format(4, 5, "TfLiteXNNPackDelegate", 2)
    assert residency_of(log, True, shared=True) == Residency(False, 8, 12, 1)
    whole = REPLACED.format(12, 12, "LITERT_CL", 1)
    assert residency_of(whole, True, shared=True) == Residency(True, 12, 12, 1)


def test_a_phone_s_log_has_the_level_on_each_line() -> None:
    log = REFUSED.replace("RESHAPE", "ERROR: RESHAPE").replace("TRANSPOSE", "ERROR: TRANSPOSE")
    assert refused_ops(log + "ERROR: 1 operations will run on the GPU, and the rest\n") == LINES
    assert refused_ops("INFO: nothing\n") == ()


@pytest.mark.parametrize(
    ("delegates", "backend"),
    [
        (("LITERT_CL",), "OpenCL"),
        (("LITERT_CL", "TfLiteXNNPackDelegate"), "OpenCL"),
        (("LITERT_CL", "LITERT_OPENGL"), "OpenGL"),
        (("LITERT_WEBGPU",), "WebGPU"),
        (("TfLiteXNNPackDelegate",), ""),
        ((), ""),
    ],
)
def test_the_back_end_is_the_last_gpu_delegate_s(delegates: tuple[str, ...], backend: str) -> None:
    assert backend_of("".join(REPLACED.format(1, 2, delegate, 1) for delegate in delegates)) == backend


@pytest.mark.parametrize(
    ("delegate", "asked", "said"),
    [
        ("LITERT_OPENGL", "default", True),
        ("LITERT_OPENGL", "opencl", True),
        ("LITERT_OPENGL", "opengl", False),
        ("LITERT_CL", "default", False),
        ("LITERT_CL", "opengl", False),
        ("LITERT_WEBGPU", "opencl", False),
    ],
)
def test_opengl_in_opencl_s_place_is_said(delegate: str, asked: str, said: bool) -> None:
    sentence = other_backend(REPLACED.format(2, 2, delegate, 1), asked)
    assert sentence.startswith("OpenGL computed in OpenCL's place") if said else sentence == ""
    # Of a model that was compiled before, only the name of the GPU tells.
    later = other_backend("", asked, f"Mali-G715, {backend_of(REPLACED.format(2, 2, delegate, 1))}, driver OpenGL")
    assert bool(later) is said


def on_a_phone(message: str) -> str:
    """The log of one message and of what comes after it."""
    kept = message.encode()[:MESSAGE_BYTES].decode()
    return "".join(f"ERROR: {line}\n" for line in [*kept.splitlines(), "Failed to apply delegate: CONV_2D: no"])


def test_what_a_phone_s_log_cuts_off_is_no_op_and_is_said() -> None:
    ops = [f"RESHAPE: Tensor dimensions must be less than 5. reshape_{i}" for i in range(40)]
    message = "\n".join(["Following operations are not supported by GPU delegate:", *ops, "1 operations will run on"])
    log = on_a_phone(message)
    whole = (MESSAGE_BYTES - len(message.split("\n")[0])) // (len(ops[0]) + 1)
    assert refused_ops(log) == tuple(ops[: len(refused_ops(log))])
    assert whole - 2 <= len(refused_ops(log)) <= whole
    assert refused_and_cut(log)[1]
    said, _ = explain_refusal("it was refused", log)
    assert said == (
        f"the GPU delegate refuses RESHAPE (rank over 4, {len(refused_ops(log))} tensors) and more ops, which the log "
        "leaves out after 1,023 bytes"
    )


@pytest.mark.parametrize("length", range(MESSAGE_BYTES - 2, MESSAGE_BYTES + 3))
def test_a_list_is_whole_where_its_count_follows_however_long_it_is(length: int) -> None:
    head = "Following operations are not supported by GPU delegate:"
    first = "A" * (length - len(head) - 2) + ":"
    assert refused_ops(f"{head}\n{first}\n1 operations will run on the GPU\n") == (first,)
    assert not refused_and_cut(f"{head}\n{first}\n1 operations will run on the GPU\n")[1]
    # Without its count: whole where it is shorter than what the log keeps of a message.
    assert refused_and_cut(f"{head}\n{first}\n")[1] is (length >= MESSAGE_BYTES)


@pytest.mark.parametrize(
    ("log", "full", "shared", "found"),
    [
        ("", True, False, Residency(True)),
        ("", False, False, Residency(False)),
        (ENGAGED, False, False, Residency(False)),
        ("", True, True, Residency(False)),
        (ENGAGED, False, True, Residency(False)),
        # Without the CPU beside it the runtime's word counts, with it the counts alone.
        (REPLACED.format(5, 5, "GPU", 1), False, False, Residency(False, 5, 5, 1)),
        (REPLACED.format(4, 5, "GPU", 1), True, False, Residency(True, 4, 5, 1)),
        (REPLACED.format(5, 5, "GPU", 1), False, True, Residency(True, 5, 5, 1)),
        (REPLACED.format(4, 5, "GPU", 3), True, True, Residency(False, 4, 5, 3)),
        (REPLACED.format(6, 5, "GPU", 3), True, True, Residency(False, 6, 5, 3)),
        # Where the CPU is asked for alone, its own delegate is what took them.
        (REPLACED.format(4, 5, "TfLiteXNNPackDelegate", 2), True, False, Residency(True, 4, 5, 2)),
        (REPLACED.format(4, 5, "xnnpack", 2), False, True, Residency(False)),
        (REPLACED.format(4, 5, "xnnpack", 2) + ENGAGED, True, True, Residency(True)),
        (REPLACED.format(1, 9, "GPU", 1) + REPLACED.format(2, 3, "GPU", 2), True, True, Residency(False, 2, 3, 2)),
        # Only together with the CPU are shared ops looked for.
        ("1 operations will run on the GPU, and the remaining 2 operations will run on", True, False, Residency(True)),
        ("1 operations will run on the GPU, and all 1 operation will run on", True, True, Residency(False, 1, 2, 1)),
        ("0 operations will run on the GPU, and all 3 operations will run on", True, True, Residency(False, 0, 3, 0)),
        (
            "9 operations will run on the GPU, and all 9 operations will run on\n"
            "4 operations will run on the GPU, and the remaining 3 operations will run on\n",
            True,
            True,
            Residency(False, 4, 7, 1),
        ),
    ],
)
def test_counts_are_those_of_the_last_line_that_has_them(log: str, full: bool, shared: bool, found: Residency) -> None:
    assert residency_of(log, full, shared=shared) == found


def test_refused_ops_come_with_the_counts_of_either_form() -> None:
    log = f"{REFUSED}4 operations will run on the GPU\n{REPLACED.format(4, 5, 'GPU', 1)}"
    assert residency_of(log, False) == Residency(False, 4, 5, 1, LINES)
    assert residency_of(log, False, shared=True) == Residency(False, 4, 5, 1, LINES)


def test_of_several_blocks_of_refused_ops_the_last_counts() -> None:
    head = "ERROR: Following operations are not supported by GPU delegate:\n"
    log = f"{head}ADD: first\n2 operations will run on the GPU\n{head.replace('delegate:', 'delegate')}MUL: second\n"
    assert refused_ops(log) == ("MUL: second",)
    assert refused_ops(f"{log}No operations will run on the GPU\nDIV: beyond\n") == ("MUL: second",)
    assert refused_ops(head) == ()
    assert refused_ops("Following operations are not supported by GPU delegate: ADD\nMUL: why\n") == ()
