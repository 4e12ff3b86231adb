"""What a test on devices shows of a foreign model: pytest prints what it is given, orders to the terminal too."""

from __future__ import annotations

import pytest

from harness.core.errors import DeviceRefused, UsageError
from harness.core.job import Residency
from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Localization, ModelFacts
from harness.remedies.cause import Cause

OSC = "\x1b]0;owned\x07\u202e\ud800"
SHOWN = "\\x1b]0;owned\\x07\\u202e\\ud800"


def test_a_fault_told_by_pytest_gives_no_orders() -> None:
    error = DeviceRefused(f"The runtime has no custom op '{OSC}'.", "Replace it.", reason=OSC, ops=())
    assert str(error) == f"The runtime has no custom op '{SHOWN}'. Replace it."
    with pytest.raises(UsageError, match=r"two\\x0alines"):
        raise UsageError("two\nlines")
    assert (error.message, error.reason) == (f"The runtime has no custom op '{OSC}'.", OSC)


def test_nor_does_an_answer_that_an_assertion_shows() -> None:
    record = OpRecord(0, OSC, 0, "y", 1, (1, 8), "float32", "culprit")
    culprits = (Culprit(record, Cause.KERNEL, None, False),)
    facts = ModelFacts("", "", 1)
    answer = Localization(facts, {}, "culprits", False, (), culprits, (), Residency(True), 1, 1, 1.0)
    assert repr(answer) == f"<Localization: culprits: {SHOWN} #0 (kernel)>"
