"""What is said to LiteRT's `run_model`, and how its words are read."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pytest

from harness.devices.android.no_app.words import MOST_LOG, VALUE_BYTES, Printed, flags, script, unable

TOKEN = "harness-0123"
CPU: dict[str, Any] = {"accelerator": "cpu", "precision": "default", "threads": 0}
GPU = CPU | {"accelerator": "gpu"}


def line(words: str, seconds: int = 1795927374, micros: int = 0) -> bytes:
    return f"I0000 00:00:{seconds}.{micros:06}   14296 tensor_utils.h:157] {words}\n".encode()


def output(place: int, *values: Any) -> bytes:
    shown = b"".join(line(f"    {i}: {value}") for i, value in enumerate(values))
    return line(f"Output buffer {place}:") + line(f"  Beginning {len(values)} elements:") + shown


class TestTheCommand:
    def test_has_the_flags_that_the_job_needs_and_no_other(self) -> None:
        assert flags("/m", CPU) == ["--graph=/m", "--accelerator=cpu", "--iterations=1"]
        assert flags("/m", GPU | {"precision": "fp32"}, inputs="/i", iterations=3, printed=7) == [
            "--graph=/m",
            "--accelerator=gpu,cpu",
            "--iterations=3",
            "--gpu_precision=fp32",
            "--input_dir=/i",
            "--print_tensors=true",
            "--compare_numerical=true",
            "--sample_size=7",
        ]

    def test_says_nothing_of_the_cpus_precision(self) -> None:
        assert flags("/m", CPU | {"precision": "fp32"}) == ["--graph=/m", "--accelerator=cpu", "--iterations=1"]

    def test_is_quoted_for_the_phones_shell(self) -> None:
        said = script("/t o", ["--graph=/a'; reboot #"], TOKEN)
        assert shlex.split(said) == [
            *("LD_LIBRARY_PATH=/t o", "/t o/run_model", "--graph=/a'; reboot #", "2>&1", "&"),
            *("echo", TOKEN, "pid", "$!;", "wait", "$!;", "code=$?;", "echo;"),
            *("echo", TOKEN, "exit", "$code"),
        ]

    @pytest.mark.parametrize(
        ("options", "inputs", "reason"),
        [
            (CPU, {"x": "float32"}, ""),
            (GPU | {"precision": "fp16"}, {"x": "bool"}, ""),
            (
                GPU | {"storage": "buffer", "priority": "low"},
                {},
                "LiteRT's run_model has no choice of storage, priority",
            ),
            (CPU, {"a": "int8", "b": "uint32"}, "LiteRT's run_model takes no input of type uint32, which 'b' is"),
        ],
    )
    def test_is_refused_where_the_tool_has_no_such_thing(
        self, options: dict[str, Any], inputs: dict[str, str], reason: str
    ) -> None:
        assert unable(options, inputs) == reason


class TestTheAnswer:
    def test_is_values_and_log_however_it_is_cut(self) -> None:
        said = (
            f"{TOKEN} pid 4711\nVERBOSE: Replacing 3 out of 5 node(s) with delegate (LITERT_CL) node\n".encode()
            + line("Model: /m", micros=5)
            + line("Signature index: 0", micros=2005)
            + line("Input buffer 0:")
            + b"".join(line(f"    {i}: {value}") for i, value in enumerate(("1", "0.5", "nan", "-1e-45")))
            + line("  Dimensions: [")
            + line("    4")
            + line("First run took 7 microseconds")
            + output(0, -2147483648, 0, 2147483647)
            + output(1, 255)
            + f"\n{TOKEN} exit 0\n".encode()
        )
        for size in (1, 7, 64, len(said)):
            printed = Printed([3, 1], 4, TOKEN)
            log = b"".join(printed.feed(said[i : i + size]) for i in range(0, len(said), size))
            assert printed.values == [[-2147483648, 0, 2147483647], [255]]
            assert (printed.pid, printed.code, printed.damaged, printed.compile_ns) == (4711, 0, "", 2_000_000)
            assert b"Replacing 3 out of 5" in log and b"]     4\n" in log
            assert TOKEN.encode() not in log and b": 255" not in log and b"nan" not in log

    @pytest.mark.parametrize(
        ("said", "damaged"),
        [
            (line("Output buffer 0:") + line("    1: 5"), "value 1 of output 0 came after 0"),
            (output(2, 1), "output 2 was printed, of 1"),
            (output(0, 1, 2, 3), ""),
        ],
    )
    def test_out_of_order_is_damaged(self, said: bytes, damaged: str) -> None:
        printed = Printed([2], 0, TOKEN)
        printed.feed(said)
        assert printed.damaged == damaged
        assert len(printed.values[0]) <= 3

    @pytest.mark.parametrize(
        ("given", "said", "unwritten"),
        [
            ([0.1, np.nan, -np.inf, 1e-45, -0.0], "0.1 -nan -inf 1.4013e-45 -0", ""),
            ([1.0, 2.0, 3.0], "1 2 0", "value 2 of input 0 was 0, not 3"),
            ([1.00001], "1.00001", ""),
            ([0.1, 70000.0], "0.0999756 inf", ""),  # from a buffer of float16
            ([1.01], "1", "value 0 of input 0 was 1, not 1.01"),
            ([np.nan], "0", "value 0 of input 0 was 0, not nan"),
            ([1.0], "word", "value 0 of input 0 was word, not 1"),
            (np.asarray([2**31 - 1], np.int32), "2147483647", ""),
            (np.asarray([2**31 - 1], np.int32), "2147483646", "value 0 of input 0 was 2147483646, not 2147483647"),
            (np.asarray([-1], np.int8), "255", ""),
            (np.asarray([258, 5], np.int16), "2 1", ""),
            (np.asarray([258, 5], np.int16), "0 0", "value 0 of input 0 was 0, not 2"),
            ([1.0], "1 7", ""),  # of no such place
        ],
    )
    def test_tells_an_input_that_is_not_what_was_given(self, given: Any, said: str, unwritten: str) -> None:
        values = given if isinstance(given, np.ndarray) else np.asarray(given, np.float32)
        printed = Printed([], 9, TOKEN, [values, np.ones(1, np.float32)])
        printed.feed(line("Input buffer 0:") + b"".join(line(f"    {i}: {v}") for i, v in enumerate(said.split())))
        assert (printed.unwritten, printed.unprinted) == (unwritten, 1)
        printed.feed(line("Input buffer 1:") + line("    0: 1"))
        assert printed.unprinted is None

    def test_without_an_end_is_bounded(self) -> None:
        printed = Printed([10], 5, TOKEN)
        printed.feed(b"x" * (15 * VALUE_BYTES + MOST_LOG))
        with pytest.raises(OverflowError):
            printed.feed(b"x")

    def test_has_no_code_before_the_tool_ended_and_none_that_is_no_number(self) -> None:
        printed = Printed([], 0, TOKEN)
        printed.feed(f"{TOKEN} pid x\n{TOKEN} exit -1\n{TOKEN} exit 99999\nother exit 0\n".encode())
        assert (printed.pid, printed.code) == (None, None)
        printed.feed(f"{TOKEN} exit 139\n".encode())
        assert printed.code == 139

    @pytest.mark.parametrize(("runs", "nanoseconds"), [(1, 900_000), (2, 100_000), (3, 50_000)])
    def test_tells_the_time_of_the_last_run(self, runs: int, nanoseconds: int) -> None:
        printed = Printed([], 0, TOKEN)
        assert printed.run_ns(runs) == 0
        average = {1: 900, 2: 500, 3: 333}[runs]
        fastest = {1: 900, 2: 100, 3: 40}[runs]
        for words in ("First run took 900", "Slowest run took 900", f"Fastest run took {fastest}"):
            printed.feed(line(f"{words} microseconds"))
        printed.feed(line(f"All runs took average {average} microseconds"))
        assert printed.run_ns(runs) == pytest.approx(nanoseconds, abs=2000)
