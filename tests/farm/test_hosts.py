"""Three hosts with addresses of their own, each with its own adb server and two stand-in phones."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.farm.tls import make_certificates
from tests.documents import check_run
from tests.farm.conftest import SimulatedFarm
from tests.farm.test_whole import check_all_done_once, workers_of
from tests.parts import MissingPart, lacking
from tests.standin.adbd import fetch_adbd
from tests.standin.build import build

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


def kill_at_work(farm: SimulatedFarm, host: str, seconds: float) -> str:
    """Kill the process that a host has for a phone, while the phone does a job; the phone's serial number."""

    def at_work() -> list[Path]:
        logs = (farm.folder / "phones" / host).glob("*.log")
        return [log for log in logs if (log.read_text().splitlines() or [""])[-1].startswith("begin")]

    farm.wait(at_work, f"phone of {host} at work", seconds)
    serial = at_work()[0].stem
    for worker in workers_of(farm.processes[host].pid):
        os.kill(worker, signal.SIGKILL)
    return serial


def check_by_the_phones(farm: SimulatedFarm, jobs: int) -> tuple[str, int]:
    """By the phones' own logs: the app began only while some job had the phone and once the app before was gone, and
    every job that came to its end had it. Counts, in a sentence; and how many jobs were cut short."""
    starts = ends = cut = 0
    for log in sorted((farm.folder / "phones").glob("*/*.log")):
        notes = [line.split() for line in (log.read_text() + log.with_suffix(".app").read_text()).splitlines()]
        job, used = "", 0
        for what, *_, _when in sorted(notes, key=lambda note: float(note[-1])):
            match what:
                case "begin" | "probe":
                    cut += job == "begin"
                    job, used = what, 0
                case "start":
                    assert job, f"{log}: the app began while nobody had the phone"
                    starts, used = starts + 1, used + 1
                case "end":
                    assert job == "begin" and used, f"{log}: a job ended without the app"
                    job, ends = "", ends + 1
                case "fail":
                    job, cut = "", cut + 1
                case _:
                    raise AssertionError(f"{log}: {what}")
    assert ends == jobs
    return f"{jobs} jobs, {starts} starts of the app, {cut} jobs cut short and done again", cut


def test_real_jobs_on_three_hosts_are_done_once_each_though_one_is_cut_off_and_processes_are_killed(
    network: Network, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the harness itself does on six phones, by the app's own code: 30 comparisons and 30 benchmarks."""
    began = time.monotonic()
    try:
        build()
    except MissingPart as missing:
        lacking(missing)
    make_certificates(tmp_path / "trust", ["all"])
    prefix = {host: ["ip", "netns", "exec", network.space(host)] for host in HOSTS}
    farm = SimulatedFarm(tmp_path, prefix, tmp_path / "trust" / "all", listens=network.here)
    try:
        farm.schedule(lost_after=15)
        serials = [each for host in HOSTS for each in farm.standin_host(host, network.address(host), harness=True)]
        commands = ["compare", "bench"]
        matrix = farm.matrix(devices=serials, commands=commands, accelerator="cpu", quick=True, repetitions=5)
        farm.begin(matrix, "--absent-after", "300")
        cut_after = random.randint(5, 40)
        farm.wait_finished(cut_after, 900)
        network.plug("two", "down")
        time.sleep(45)
        before = farm.finished()
        assert before < 60
        network.plug("two", "up")
        killed = kill_at_work(farm, "three", 900)
        client = farm.processes.pop("client")
        # 4: a benchmark beside others on the same cores says itself that it does not count.
        assert client.wait(1500) in (0, 4), farm.said()
        check_all_done_once(farm, matrix, 60, (0, 4))
        said, cut = check_by_the_phones(farm, 60)
        assert cut >= 1
        rows = json.loads((tmp_path / "out/matrix.json").read_text())["jobs"]
        for row in rows:
            assert row["serial"] == row["device"] and row["host"] == row["serial"][:-2]
            assert row["exit_code"] in ((0,) if row["command"] == "compare" else (0, 4)), row
            check_run(tmp_path / "out" / row["run"])
        assert len({row["serial"] for row in rows}) == 6
    finally:
        network.plug("two", "up")
        farm.close()
    with capsys.disabled():
        more = f"cut off after {cut_after}, {before} finished when it returned; processes killed with a job on {killed}"
        said = f"{said}; {more}; {time.monotonic() - began:.0f} s in all"
        sys.stdout.write(f"\n{said}\n")
