"""What a phone or a runtime logs is read in a time that grows with its length, whatever it is made of."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from harness.devices.android import apk, ready
from harness.devices.android.logcat import as_on_the_host, exit_record
from harness.devices.refusal import explain_refusal, lacking_custom_op, last_words, shader_fault
from harness.devices.residency import adapter_of, refused_ops, residency_of
from harness.latency.validity import ops_on_the_cpu
from harness.localize.probe.excess import limit_exceeded

SHORT, LONG = 2_000, 8_000
# Four times the text costs four times as much where the cost is linear, sixteen times where it is quadratic.
MOST = 8.0
STEADY_SECONDS = 0.0005

# Each begins like something that is looked for, over and over, and never ends like it.
PIECES = (
    " ",
    "\n",
    "\n ",
    "1",
    "A",
    "a",
    "] ",
    "A_",
    ": ",
    "ERROR: [",
    "Replacing 1 out of 1 node(s) with delegate (",
    "Replacing 1 out of 1 node(s) with delegate (X) ",
    "1 operations will run on the GPU, and ",
    "Following operations are not supported by GPU delegate ",
    "Selected adapter: ",
    "Selected adapter: a, arch=b backend=",
    "Selected adapter: a, arch=b",
    "Encountered unresolved custom op: ",
    "Error while parsing WGSL: ",
    "is larger than ",
    "a exceeds ",
    "error.cc:1",
    "pid=42 ",
    "reason=1 (",
    "reason=1 (a) subreason=1 (",
    "description=",
    "Failure [",
    "E0000 ] ",
)
BEGINNINGS = (
    "",
    "E0000 x] ",
    "ERROR: ",
    "Encountered unresolved custom op: a",
    "11-20 14:05:17.107  6937  6956 E ",
    "pid=42 reason=1 (A) ",
    "Following operations are not supported by GPU delegate:\n",
    "Error while parsing WGSL:",
)
READERS: dict[str, Callable[[str], object]] = {
    "residency_of": lambda text: residency_of(text, True, shared=True),
    "refused_ops": refused_ops,
    "adapter_of": adapter_of,
    "as_on_the_host": as_on_the_host,
    "exit_record": lambda text: exit_record(text, 42),
    "explain_refusal": lambda text: explain_refusal("it does not", text),
    "lacking_custom_op": lacking_custom_op,
    "last_words": last_words,
    "shader_fault": shader_fault,
    "limit_exceeded": limit_exceeded,
    "ops_on_the_cpu": ops_on_the_cpu,
    "readiness": lambda text: ready.readiness_from(text, text, text),
    "version_name": apk.version_name,
    "install_failure": apk.install_failure,
}


def _seconds(read: Callable[[str], object], text: str, enough: float) -> float:
    """The shortest of several readings, so that what else runs on the machine is not counted; the first that takes as
    little as is `enough`."""
    best, spent = float("inf"), 0.0
    for _ in range(7):
        begin = time.process_time()
        read(text)
        took = time.process_time() - begin
        best, spent = min(best, took), spent + took
        if spent > 0.5 or best <= enough:
            break
    return best


def _grows(read: Callable[[str], object], short: str, long: str) -> bool:
    took, least = _seconds(read, long, STEADY_SECONDS), STEADY_SECONDS / 4
    return took > STEADY_SECONDS and took > MOST * max(_seconds(read, short, least), least)


@pytest.mark.parametrize("name", READERS)
def test_four_times_the_log_takes_about_four_times_as_long(name: str) -> None:
    read = READERS[name]
    slow = []
    for start in BEGINNINGS:
        for piece in PIECES:
            short, long = (start + piece * (size // len(piece)) for size in (SHORT, LONG))
            # A cost that grows too fast does so every time; a busy machine does not.
            if all(_grows(read, short, long) for _ in range(3)):
                slow.append(start + piece)
    assert not slow
