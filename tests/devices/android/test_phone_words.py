"""Numbers and words of a phone's own tools that cannot be: unknown, or one sentence, and never a traceback."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.device import AndroidLauncher, PhoneOptions
from harness.devices.android.ready import Readiness, readiness_from

UNKNOWN = Readiness(awake=None, battery=None, charging=False, celsius=None, thermal=None)


@pytest.mark.parametrize("digits", [19, 400, 5000])
def test_a_number_of_more_digits_than_any_has_is_unknown(digits: int) -> None:
    number = "9" * digits
    battery = f"  level: {number}\n  scale: {number}\n  temperature: -{number}\n"
    assert readiness_from("", battery, f"Thermal Status: {number}\n") == UNKNOWN


def test_what_is_no_number_is_unknown() -> None:
    assert readiness_from("", "  level: full\n  scale: \n", "Thermal Status: hot\n") == UNKNOWN


def test_numbers_are_read_as_a_phone_prints_them() -> None:
    power, thermal = "  mWakefulness=Awake\n", "  Thermal Status: 9\n"
    battery = "  AC powered: true\n  level: 40\n  scale: 50\n  temperature: -12\n"
    assert readiness_from(power, battery, thermal) == Readiness(True, 80, True, -1.2, "shutdown")


class Answering(Adb):
    def __init__(self, said: str) -> None:
        super().__init__(Server(), "phone")
        self.said = said

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        return self.said


@pytest.mark.parametrize("said", ["9" * 20, "9" * 5000, "12 " + "9" * 5000, "\u0661\u0662", "12\nno such tool"])
def test_process_ids_that_cannot_be_are_no_answer(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = AndroidLauncher(Answering(said), PhoneOptions())
    with pytest.raises(AdbError, match="gave no process ids"):
        launcher._pids()


def test_process_ids_are_read() -> None:
    assert AndroidLauncher(Answering("12 345\n"), PhoneOptions())._pids() == [12, 345]


def test_an_adb_server_that_answers_drop_by_drop_is_left_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            peer, _ = listening.accept()
            with peer:
                try:
                    for byte in b"FAIL" + b"ffff" + b"x" * 100:
                        peer.sendall(bytes([byte]))
                        time.sleep(0.2)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        begin = time.monotonic()
        with pytest.raises(AdbError, match="gave no answer in time"):
            Adb(Server("127.0.0.1", listening.getsockname()[1]), "phone").stream("tcp:1", begin + 1.0)
        assert time.monotonic() - begin < 3.0
        thread.join()
