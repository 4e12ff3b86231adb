"""How the process that prepares a model may end, and what is said of it."""

from __future__ import annotations

import signal
from typing import Any, Literal

import pytest

from harness.devices import shapes
from harness.devices.captured import Captured
from harness.devices.shapes import Unanswered, Undecided, shapes_at
from tests.chains import chain

KILLED, DIED = -int(signal.SIGKILL), -int(signal.SIGSEGV)


@pytest.mark.parametrize(
    ("code", "killed", "kind", "said"),
    [
        (DIED, "", Unanswered, r"its process was ended by SIGSEGV"),
        (-64, "", Unanswered, r"its process was ended by (SIGRTMAX|signal 64)"),
        (3, "", Unanswered, r"its process ended with exit code 3"),
        # By the system, for memory: no word on the file.
        (KILLED, "", Undecided, r"its process was ended by SIGKILL"),
        (None, "time", Undecided, r"no answer within \d+ s"),
        (None, "size", Unanswered, r"its process said more than \d+ MiB"),
    ],
)
def test_an_end_without_an_answer_says_how_it_was(
    code: int | None,
    killed: Literal["", "time", "size"],
    kind: type[Exception],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended(*words: Any, **options: Any) -> Captured:
        return Captured("", code, killed)

    monkeypatch.setattr(shapes, "captured", ended)
    with pytest.raises(kind, match=f"^{said}$"):
        shapes_at(chain("RELU"), {})
