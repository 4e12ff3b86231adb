"""The command line that repeats a run."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from harness.report.command import Reproduction, quote, reproduction
from harness.report.record import parse_run

if TYPE_CHECKING:
    from tests.report.conftest import Samples


def repeat(samples: Samples, command: str = "localize", path: str = "m.tflite", **options: Any) -> Reproduction | None:
    record = samples.record(command, model={"path": path, "sha256": "", "ops": 1})
    record["options"] |= options
    return reproduction(parse_run(record))


def test_every_option_is_stated(samples: Samples) -> None:
    again = repeat(samples)
    assert again is not None and again.note == ""
    assert again.line == (
        "harness localize m.tflite --device host --accelerator gpu --precision default --seed 0 --timeout 600"
    )


def test_limits_of_the_caller_are_stated_too(samples: Samples) -> None:
    again = repeat(samples, "compare", limits={"min_cosine": 0.999, "atol": 0.01, "rtol": 0.0, "min_iou": 0.95})
    assert again is not None
    assert again.line.endswith("--seed 0 --min-cosine 0.999 --atol 0.01 --rtol 0 --min-iou 0.95 --timeout 600")


def test_inputs_from_a_file_and_a_signature_are_named(samples: Samples) -> None:
    again = repeat(samples, "compare", inputs="in puts.npz", signature="serve", precision="fp32", timeout_s=0.5)
    assert again is not None and again.line == (
        "harness compare m.tflite --device host --accelerator gpu --precision fp32 --inputs 'in puts.npz' "
        "--signature serve --timeout 0.5"
    )


def test_the_fallback_and_the_number_of_runs_are_stated_where_they_were_asked_for(samples: Samples) -> None:
    again = repeat(samples, fallback="cpu", runs=8)
    assert again is not None and again.line == (
        "harness localize m.tflite --device host --accelerator gpu --precision default --fallback cpu --seed 0 "
        "--runs 8 --timeout 600"
    )
    other = repeat(samples, "run", fallback="none", runs=None)
    assert other is not None and "--runs" not in other.line and "--fallback" not in other.line


def test_inputs_that_a_program_gave_are_asked_for(samples: Samples) -> None:
    line = repeat(samples, inputs="given by the caller")
    assert line is not None
    assert "--inputs INPUTS.npz" in line.line
    assert "save them as INPUTS.npz" in line.note


def test_a_path_that_looks_like_an_option_is_made_a_path(samples: Samples) -> None:
    line = repeat(samples, path="--out=x.tflite")
    assert line is not None and shlex.split(line.line)[2] == "./--out=x.tflite"


def test_a_command_that_takes_no_such_options_is_not_repeated(samples: Samples) -> None:
    assert repeat(samples, "bench") is None
    assert repeat(samples, path="") is None


WORDS = ["a b", "a'b", 'a"b', "$(rm -rf x)", "`id`", "a\\b", "a\nb", "a\tb\x1b[31m'\\", "\u202eé\u2028", "🙂", "*", "~"]


@pytest.mark.parametrize("word", WORDS, ids=range(len(WORDS)))
def test_a_shell_reads_a_quoted_word_back(word: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not on PATH")
    quoted = quote(word)
    assert quoted.isprintable()
    done = subprocess.run([bash, "-c", f"printf %s {quoted}"], capture_output=True, check=True, timeout=30)
    assert done.stdout == word.encode()
