"""A phone that is measured on is awake, charged and cool; each limit is met just so."""

from __future__ import annotations

import time
from typing import Any

import pytest

from harness.core.errors import DeviceError
from harness.devices.android import ready
from harness.devices.android.adb import Adb, Server
from harness.devices.android.ready import Readiness, make_ready, readiness, readiness_from

FIT = Readiness(awake=True, battery=80, charging=False, celsius=25.0, thermal="none")
SCREEN = ("its screen is off", "Unlock it, and keep the screen on while it charges.")
HOT = "Let it cool, or give --cool-down SECONDS."


def with_(**changes: Any) -> Readiness:
    return Readiness(**(vars(FIT) | changes))


@pytest.mark.parametrize(
    ("found", "complaints"),
    [
        (FIT, ()),
        (with_(awake=None, battery=None, thermal=None), ()),
        (with_(awake=False), (SCREEN,)),
        (with_(battery=10), ()),
        (with_(battery=9), (("its battery is at 9 %", "Charge it."),)),
        (with_(battery=0), (("its battery is at 0 %", "Charge it."),)),
        (with_(battery=9, charging=True), ()),
        (with_(thermal="moderate"), ()),
        (with_(thermal="severe"), (("its thermal state is severe", HOT),)),
        (with_(thermal="shutdown"), (("its thermal state is shutdown", HOT),)),
        (
            with_(awake=False, battery=1, thermal="critical"),
            (SCREEN, ("its battery is at 1 %", "Charge it."), ("its thermal state is critical", HOT)),
        ),
    ],
)
def test_what_keeps_a_phone_from_being_measured_on(found: Readiness, complaints: tuple[tuple[str, str], ...]) -> None:
    assert found.complaints == complaints


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (FIT, "screen on, battery 80 % at 25.0 °C, thermal none"),
        (with_(awake=False, charging=True), "screen off, battery 80 % (charging) at 25.0 °C, thermal none"),
        (Readiness(None, None, False, None, None), "screen unknown, battery unknown, thermal unknown"),
        (with_(battery=0, celsius=0.0), "screen on, battery 0 % at 0.0 °C, thermal none"),
    ],
)
def test_a_phone_s_state_reads_in_one_line(found: Readiness, said: str) -> None:
    assert str(found) == said


@pytest.mark.parametrize(
    ("power", "battery", "thermal", "found"),
    [
        ("", "", "", Readiness(None, None, False, None, None)),
        ("mWakefulness=Awake", "", "", Readiness(True, None, False, None, None)),
        ("mWakefulness=Asleep\nmWakefulness=Awake", "", "", Readiness(False, None, False, None, None)),
        ("xmWakefulness=Awake", "", "", Readiness(None, None, False, None, None)),
        ("", "level: 40", "", Readiness(None, 40, False, None, None)),
        ("", "level: 1\nscale: 200", "", Readiness(None, 0, False, None, None)),  # a half goes to the even one
        ("", "level: 3\nscale: 200", "", Readiness(None, 2, False, None, None)),
        ("", "level: 40\nscale: 0", "", Readiness(None, 40, False, None, None)),
        ("", "temperature: 251", "", Readiness(None, None, False, 25.1, None)),
        ("", "temperature: 0", "", Readiness(None, None, False, 0.0, None)),
        ("", "USB powered: false\nDock powered: true", "", Readiness(None, None, True, None, None)),
        ("", "USB powered: false", "", Readiness(None, None, False, None, None)),
        ("", "", "Thermal Status: -1", Readiness(None, None, False, None, "none")),
        ("", "", "Thermal Status: 0", Readiness(None, None, False, None, "none")),
        ("", "", "Thermal Status: 1", Readiness(None, None, False, None, "light")),
        ("", "", "Thermal Status: 6", Readiness(None, None, False, None, "shutdown")),
        ("", "", "Thermal Status: 7", Readiness(None, None, False, None, "shutdown")),
    ],
)
def test_what_a_phone_says_is_read_as_it_means_it(power: str, battery: str, thermal: str, found: Readiness) -> None:
    assert readiness_from(power, battery, thermal) == found


class Phone(Adb):
    """Says these thermal states one after another, the last for ever; awake once it is woken."""

    def __init__(self, *thermal: str, awake: bool = True, wakes: bool = True) -> None:
        super().__init__(Server(), "S0")
        self.thermal, self.awake, self.wakes = list(thermal), awake, wakes
        self.asked: list[tuple[tuple[str, ...], bool]] = []

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        self.asked.append((argv, check))
        match argv[-1]:
            case "power":
                return f"mWakefulness={'Awake' if self.awake else 'Asleep'}"
            case "battery":
                return "level: 50"
            case "thermalservice":
                state = self.thermal.pop(0) if len(self.thermal) > 1 else self.thermal[0]
                return f"Thermal Status: {ready.THERMAL.index(state)}"
        assert argv == ("input", "keyevent", "KEYCODE_WAKEUP")
        self.awake = self.wakes
        return ""


READ = [(("dumpsys", "power"), True), (("dumpsys", "battery"), True), (("dumpsys", "thermalservice"), False)]
WOKEN = [(("input", "keyevent", "KEYCODE_WAKEUP"), True)]


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept, on a clock that goes on by nothing else."""
    found: list[float] = []
    monkeypatch.setattr(time, "monotonic", lambda: 64.0 + sum(found))
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_a_service_that_is_not_there_hinders_nothing() -> None:
    phone = Phone("none")
    assert readiness(phone) == Readiness(True, 50, False, None, "none")
    assert phone.asked == READ


def test_a_phone_that_is_fit_is_asked_once(slept: list[float]) -> None:
    phone = Phone("moderate")
    assert make_ready(phone).thermal == "moderate"
    assert (phone.asked, slept) == (READ, [])


def test_a_dark_screen_is_woken_and_looked_at_again(slept: list[float]) -> None:
    phone = Phone("none", awake=False)
    assert make_ready(phone).awake is True
    assert phone.asked == READ + WOKEN + READ
    with pytest.raises(DeviceError) as caught:
        make_ready(Phone("severe", awake=False, wakes=False))
    assert caught.value.message == "S0 is not ready: its screen is off and its thermal state is severe."
    assert caught.value.next_step == SCREEN[1]


@pytest.mark.parametrize(
    ("states", "cool_down", "naps"),
    [
        (["light"], 60.0, 0),
        (["moderate", "light"], 60.0, 1),
        (["critical", "severe", "moderate", "none"], 60.0, 3),
        (["moderate", "moderate", "light"], 10.0, 2),
    ],
)
def test_a_warm_phone_may_cool_down(states: list[str], cool_down: float, naps: int, slept: list[float]) -> None:
    assert make_ready(Phone(*states), cool_down).thermal == states[-1]
    assert slept == [5.0] * naps


@pytest.mark.parametrize(("cool_down", "naps"), [(4.0, 1), (10.0, 2), (11.0, 3)])
def test_a_phone_that_stays_warm_is_given_up_when_the_time_is_over(
    cool_down: float, naps: int, slept: list[float]
) -> None:
    with pytest.raises(DeviceError) as caught:
        make_ready(Phone("moderate"), cool_down)
    assert caught.value.message == f"S0 is still in thermal state moderate after {cool_down:g} s of cooling."
    assert caught.value.next_step == ("Take it off its charger and out of the sun, or give a longer --cool-down.")
    assert slept == [5.0] * naps
