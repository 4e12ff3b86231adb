"""What is said of each way that a job can end badly, word for word, and what is advised."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import DeviceDied, DeviceError, DeviceRefused, DeviceSilent
from harness.core.job import Crashed, Lost, Rejected, TimedOut
from harness.devices.execute import failure

LATE = "the runtime gave up waiting for an output (code=3)"
AGAIN = "Run it again while the machine does nothing else: shaders it has compiled by now are kept."
OWN, LAST = "The runtime's own words are in log.txt.", "The runtime's last words are in log.txt."
DOCTOR = "Run `harness doctor`."
FULL = "Free space there; on the host, that is where TMPDIR points."
BUILTIN = "Replace that op by builtin ones when exporting the model."
AUDIT = "`harness audit` lists what the GPU refuses: --fallback cpu runs it on the CPU, or re-author it."


@pytest.mark.parametrize(
    ("outcome", "kind", "said", "step"),
    [
        (Rejected(LATE), DeviceSilent, f"gave no answer while tapping: {LATE}.", AGAIN),
        (Rejected(LATE, ("ADD: no",), log="x"), DeviceSilent, f"gave no answer while tapping: {LATE}.", AGAIN),
        (Rejected("no"), DeviceRefused, "rejected the model while tapping: no.", DOCTOR),
        (Rejected("no", log="x"), DeviceRefused, "rejected the model while tapping: no.", OWN),
        (
            Rejected("the model cannot be stored (x)", ("CUSTOM: y",), log="x"),
            DeviceRefused,
            "rejected the model while tapping: the model cannot be stored (x).",
            FULL,
        ),
        (Rejected("no", ("ADD: x", "CUSTOM: y")), DeviceRefused, "rejected the model while tapping: no.", BUILTIN),
        (Rejected("no", ("CUSTOM", "ADD: x"), log="x"), DeviceRefused, "rejected the model while tapping: no.", AUDIT),
        (TimedOut(2.5), DeviceSilent, "gave no answer within 2.5 s while tapping and was killed.", "Raise --timeout."),
        (
            TimedOut(2.5, log="x"),
            DeviceSilent,
            "gave no answer within 2.5 s while tapping and was killed.",
            "Raise --timeout, or look at log.txt.",
        ),
        (Crashed("it ended"), DeviceDied, "crashed while tapping: it ended.", DOCTOR),
        (Crashed("it ended.", log="x"), DeviceDied, "crashed while tapping: it ended.", LAST),
        (Lost("it went"), DeviceError, "was lost while tapping: it went.", DOCTOR),
        (Lost("it went", log="x"), DeviceError, "was lost while tapping: it went.", DOCTOR),
    ],
)
def test_each_ending_has_its_kind_its_sentence_and_its_advice(
    outcome: Any, kind: type[DeviceError], said: str, step: str
) -> None:
    error = failure("phone", outcome, "tapping")
    assert type(error) is kind
    assert (error.message, error.next_step, error.log) == (f"phone {said}", step, outcome.log)


def test_a_refusal_of_the_untouched_model_does_not_say_what_was_done_with_it() -> None:
    error = failure("phone", Rejected("no", ("ADD: x",)), "running the model")
    assert isinstance(error, DeviceRefused)
    assert error.message == "phone rejected the model: no."
    assert (error.reason, error.ops, error.doing) == ("no", ("ADD: x",), "running the model")
