"""Three hosts with addresses of their own, each with its own adb server and two stand-in phones."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.farm.tls import make_certificates
from tests.farm.conftest import SimulatedFarm
from tests.farm.test_whole import check_all_done_once
from tests.parts import MissingPart, lacking
from tests.standin.adbd import fetch_adbd

pytestmark = pytest.mark.slow
HOSTS = ("one", "two", "three")


class Network:
    """A bridge, and a network namespace behind it for each host."""

    def __init__(self) -> None:
        self._mark = f"{os.getpid() % 10000:04d}"
        self._net = f"10.{os.getpid() % 200 + 20}.7"
        self.here = f"{self._net}.1"
        self._bridge = f"farm{self._mark}"

    def make(self) -> None:
        """Raises MissingPart where this system gives none."""
        if shutil.which("ip") is None:
            raise MissingPart("Hosts with addresses of their own need the package iproute2.")
        try:
            self._ip("link", "add", self._bridge, "type", "bridge")
            self._ip("addr", "add", f"{self.here}/24", "dev", self._bridge)
            self._ip("link", "set", self._bridge, "up")
            for number, host in enumerate(HOSTS, 2):
                space, outer, inner = self.space(host), self._outer(host), f"i{self._mark}{number}"
                self._ip("netns", "add", space)
                self._ip("link", "add", outer, "type", "veth", "peer", "name", inner)
                self._ip("link", "set", inner, "netns", space)
                self._ip("link", "set", outer, "master", self._bridge, "up")
                self._ip("-n", space, "addr", "add", f"{self.address(host)}/24", "dev", inner)
                self._ip("-n", space, "link", "set", inner, "up")
                self._ip("-n", space, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            raise MissingPart(f"This system gives no network namespaces ({error.stderr.strip()}).") from None

    def space(self, host: str) -> str:
        return f"farm{self._mark}{host}"

    def address(self, host: str) -> str:
        return f"{self._net}.{HOSTS.index(host) + 2}"

    def plug(self, host: str, way: str) -> None:
        """`down`: nothing reaches the host any more; `up`."""
        self._ip("link", "set", self._outer(host), way)

    def close(self) -> None:
        for host in HOSTS:
            with suppress(subprocess.CalledProcessError):
                self._ip("netns", "del", self.space(host))
            with suppress(subprocess.CalledProcessError):
                self._ip("link", "del", self._outer(host))
        with suppress(subprocess.CalledProcessError):
            self._ip("link", "del", self._bridge)

    def _outer(self, host: str) -> str:
        return f"o{self._mark}{HOSTS.index(host) + 2}"

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        pytest.skip("Only root makes hosts with addresses of their own.")
    made = Network()
    try:
        fetch_adbd()
        made.make()
        yield made
    except MissingPart as missing:
        lacking(missing)
    finally:
        made.close()


def test_a_host_that_is_cut_off_and_returns_costs_nothing(network: Network, tmp_path: Path) -> None:
    make_certificates(tmp_path / "trust", ["all"])
    prefix = {host: ["ip", "netns", "exec", network.space(host)] for host in HOSTS}
    farm = SimulatedFarm(tmp_path, prefix, tmp_path / "trust" / "all", listens=network.here)
    try:
        farm.schedule()
        serials = []
        for host in HOSTS:
            serials += farm.standin_host(host, network.address(host))
            (farm.phones(host) / "all.json").write_text('{"seconds": 0.4}')
        matrix = farm.matrix(devices=serials, repetitions=10)
        farm.begin(matrix, "--absent-after", "90")
        farm.wait_finished(random.randint(5, 25), 200)
        network.plug("two", "down")
        time.sleep(25)
        assert farm.finished() < 60
        network.plug("two", "up")
        client = farm.processes.pop("client")
        assert client.wait(240) == 0, farm.said()
        check_all_done_once(farm, matrix, 60)
        assert len(farm.ended()) == 6 and set(farm.ended().values()) == {10}
    finally:
        network.plug("two", "up")
        farm.close()
