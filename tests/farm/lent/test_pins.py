"""Which device a word means, and what is said where there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("distributed")

from harness.core.errors import UsageError
from harness.devices.registry import kind_of
from harness.farm import execute
from harness.farm.execute import Station
from harness.farm.found import Found
from harness.farm.job import TakenOut
from harness.farm.lent import host
from harness.farm.lent.pins import Pin, absent, choose, pin_devices
from harness.farm.lent.session import LentDevices, farm_at
from harness.farm.node import Farm, FarmWorker
from harness.farm.store import Store
from harness.farm.tls import make_certificates

FARM = Farm("tls://lab1:8786", absent_after=7)


def worker(host: str, name: str, *offers: str, job: str = "") -> FarmWorker:
    return FarmWorker(
        f"tls://{host}:{name}", frozenset({f"host:{host}", *offers}), {"host": host, "device": name, "job": job}
    )


def keeper(host: str, *devices: dict[str, object]) -> FarmWorker:
    return FarmWorker(f"tls://{host}:keeper", frozenset({f"keeper:{host}"}), {"host": host, "devices": list(devices)})


LAB = [
    worker("lab1", "host", "kind:host"),
    worker("lab2", "host", "kind:host", job="1"),
    worker("lab1", "A", "serial:A", "gpu:mali", "model:pixel8a"),
    worker("lab2", "B", "serial:B", "gpu:mali"),
    keeper("lab1", {"name": "A", "serial": "number-a", "state": "here"}),
    keeper("lab2", {"name": "C", "state": "out", "reason": "it fails", "offers": ["gpu:adreno"]}),
]


def test_a_word_means_a_device_that_has_all_of_it() -> None:
    pins = choose(LAB, ["gpu=mali,host=lab2", "pixel8a", "serial=A"])
    assert {word: (pin.device, pin.host) for word, pin in pins.items()} == {
        "gpu=mali,host=lab2": ("B", "lab2"),
        "pixel8a": ("A", "lab1"),
        "serial=A": ("A", "lab1"),
    }
    assert pins["pixel8a"] == Pin("pixel8a", "lab1", "A", "number-a")
    assert pins["pixel8a"].place == "number-a on lab1"
    assert choose(LAB, ["gpu=adreno"]) == {}


def test_two_words_mean_two_devices_where_there_are_two() -> None:
    pins = choose(LAB, ["gpu=mali", "pixel8a"])
    assert (pins["gpu=mali"].device, pins["pixel8a"].device) == ("B", "A")


def test_one_that_is_free_goes_before_one_that_works() -> None:
    assert choose(LAB, ["host"])["host"].host == "lab1"
    busy = [worker("lab1", "host", "kind:host", job="7"), worker("lab2", "host", "kind:host")]
    assert choose(busy, ["host"])["host"].host == "lab2"
    assert choose(busy[:1], ["host"])["host"].host == "lab1"


@pytest.mark.parametrize(
    ("word", "opens"),
    [
        ("host", "host"),
        ("host@2.1.5", "host@2.1.5"),
        ("host=lab1,host", "host"),
        ("planted:mali", "planted:mali"),
    ],
)
def test_what_the_host_opens_is_what_the_word_says(word: str, opens: str) -> None:
    assert choose(LAB, [word])[word].opens == opens


def test_a_phone_is_opened_by_its_serial() -> None:
    assert choose(LAB, ["gpu=mali,host=lab1"])["gpu=mali,host=lab1"].opens == "A"


def test_a_device_that_nobody_has_is_a_sentence() -> None:
    said = str(absent(FARM, ("gpu:adreno",), LAB))
    assert said == (
        "No device has gpu:adreno for 7 s (C is taken out: it fails). Look at `harness farm status lab1:8786`."
    )


@pytest.mark.parametrize("word", ["what/ever", "host,pixel8a", "colour=red", "", "gpu="])
def test_a_word_that_is_none_is_said_before_the_farm_is_asked(word: str) -> None:
    with pytest.raises(UsageError, match="--device has"):
        pin_devices(FARM, [word])


def test_words_belong_to_the_farm_while_the_session_lasts() -> None:
    pins = choose(LAB, ["host", "gpu=mali"])
    lent = LentDevices(FARM, pins)
    assert kind_of("host").in_parts and kind_of("host").profiler_python is None
    assert kind_of("gpu=mali").fixed_performance
    assert kind_of("planted:mali").name == "planted"
    other = LentDevices.told(FARM, lent.document())
    assert other.document() == lent.document()
    other.close()
    lent.close()
    assert kind_of("host").profiler_python is not None


def test_how_the_farm_is_reached_is_checked(tmp_path: Path) -> None:
    (folder,) = make_certificates(tmp_path, ["me"])
    assert farm_at("lab1:8786", folder, False, 5) == Farm("tls://lab1:8786", folder, absent_after=5)
    assert farm_at("lab1:8786", None, True, 5).scheduler == "tcp://lab1:8786"
    for words, said in (
        ((None, False, 5), "Give --farm-certificates DIR"),
        ((folder, True, 5), "contradict"),
        ((tmp_path, False, 5), "has no cert.pem"),
        ((folder, False, float("nan")), "no time to wait"),
    ):
        with pytest.raises(UsageError, match=said):
            farm_at("lab1:8786", *words)


def test_a_device_that_fails_while_it_is_lent_is_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After trouble it gets the small model, as after a job; who has it is seen meanwhile."""
    (tmp_path / "p0.json").write_text('{"fails": true}')
    program = (sys.executable, str(Path(__file__).parents[1] / "program.py"), str(tmp_path))
    station = Station("lab1", Found("p0", "p0", ("serial:p0",)), Store(tmp_path / "store"), program)
    told: list[dict[str, object]] = []
    station.tell = told.append
    monkeypatch.setattr(execute, "_here", station)
    document = '{"id": "00000000000000000000000000000000", "borrower": "me@desk"}'
    monkeypatch.setattr(host, "_held", lambda station, spec: "")
    host.lend(document)
    assert not station.failures and {"job": "lent to me@desk", "doing": "lent to me@desk"} in told
    monkeypatch.setattr(host, "_held", lambda station, spec: "gpu")
    host.lend(document)
    host.lend(document)
    assert station.out.startswith("2 device failures in a row")
    with pytest.raises(TakenOut):
        host.lend(document)
