"""Names and addresses of a farm's machines and devices."""

from __future__ import annotations

import asyncio
import socket

import pytest

pytest.importorskip("distributed")

from harness.core.errors import UsageError
from harness.farm.found import gpu_family
from harness.farm.node import Unreached, own_address, scheduler_address, why_no_connection


@pytest.mark.parametrize(
    ("driver", "family"),
    [("mali", "mali"), ("adreno", "adreno"), ("powervr", "powervr"), ("Mali-G715", "mali"), ("", ""), ("7x", "")],
)
def test_the_gpu_s_family_is_in_its_driver_s_name(driver: str, family: str) -> None:
    assert gpu_family(driver) == family


def test_an_address_has_the_scheme_that_fits() -> None:
    assert scheduler_address("lab1:8786", tls=True) == "tls://lab1:8786"
    assert scheduler_address("tcp://lab1:8786", tls=False) == "tcp://lab1:8786"


@pytest.mark.parametrize("text", ["lab1", "lab1:x", "lab1:99999", "http://lab1:1", "tls://lab1:1/x", ":8786", ""])
def test_what_is_no_address_is_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="is no address of a scheduler"):
        scheduler_address(text, tls=True)


def test_plain_and_secured_are_not_mixed() -> None:
    with pytest.raises(UsageError, match="is without TLS"):
        scheduler_address("tcp://lab1:8786", tls=True)
    with pytest.raises(UsageError, match="is with TLS"):
        scheduler_address("tls://lab1:8786", tls=False)


def test_a_host_s_own_address_is_on_the_scheduler_s_network() -> None:
    assert own_address("tls://127.0.0.1:8786") == "127.0.0.1"


def test_an_address_without_a_port_is_given_one() -> None:
    with pytest.raises(UsageError, match="'lab7' is no address of a scheduler without a port") as raised:
        scheduler_address("lab7", tls=True)
    assert raised.value.next_step == "Write it as lab7:8786."


def test_a_name_that_cannot_be_looked_up_is_no_address() -> None:
    with pytest.raises(UsageError, match=r"'lab\.\.1:8786' is no address of a scheduler"):
        scheduler_address("lab..1:8786", tls=True)


def test_why_a_scheduler_is_not_reached_is_the_system_s_word() -> None:
    with socket.socket() as here:
        here.bind(("127.0.0.1", 0))
        port = here.getsockname()[1]
        assert asyncio.run(why_no_connection(f"tcp://127.0.0.1:{port}")) == "Connection refused"
        here.listen()
        assert asyncio.run(why_no_connection(f"tcp://127.0.0.1:{port}")) == ""
    assert "known" in asyncio.run(why_no_connection("tcp://no-such-host.invalid:8786"))


def test_a_scheduler_that_is_not_reached_is_told_of_once() -> None:
    said: list[str] = []
    told = Unreached("tls://lab1:8786", said.append)
    for why in ("", "Connection refused", "Connection refused", "", ""):
        told.note(why)
    assert said == [
        "The scheduler tls://lab1:8786 is not reached (Connection refused); trying again until this is ended.",
        "The scheduler tls://lab1:8786 is reached.",
    ]
