"""`pytest --farm` as a person starts it: a scheduler, a host with its own CPU and GPU, TLS, and a suite elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from harness.core.errors import DeviceError
from harness.farm.lent.host import SILENT_SECONDS
from harness.farm.node import Farm
from harness.farm.status import farm_status
from harness.farm.tls import make_certificates
from tests.cli.conftest import ROOT
from tests.documents import check_run
from tests.farm.conftest import HARNESS, SimulatedFarm
from tests.parts import MissingPart, lacking
from tests.standin.build import build
from tests.workers import SERVER

pytestmark = pytest.mark.slow

SUITE = """
import dataclasses, time
from pathlib import Path
import numpy as np
from harness.core.job import Completed, Options
from harness.devices.execute import make_job
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from tests import models

CPU = Options(accelerator="cpu")

def short():
    model = models.right()
    return make_job(model, random_inputs(model.graph(), 0), CPU, timeout=60)

def long():
    graph = GraphBuilder()
    x = graph.input("x", (64, 512))
    graph.output(graph.fully_connected(x, np.eye(512, dtype=np.float32), np.zeros(512, np.float32)), "y")
    model = graph.build()
    job = make_job(model, random_inputs(model.graph(), 0), Options(accelerator="reference"), timeout=600)
    return dataclasses.replace(job, warmup=900_000)

def completes(device):
    done = device.run(short())
    assert isinstance(done, Completed), done
"""
QUICK = "def test_it(device):\n    completes(device)\n"
LONG = (
    "def test_long(device):\n    device.facts()\n    Path('begun').touch()\n    done = device.run(long())\n"
    "    assert isinstance(done, Completed), done\n"
    "def test_next(device):\n    completes(device)\n"
)


class Lab(SimulatedFarm):
    """A farm with TLS whose hosts have their own CPU and GPU, and a suite on another machine."""

    def begin_hosts(self, *names: str) -> None:
        make_certificates(self.folder / "trust", ["all", "me"])
        make_certificates(self.folder / "others", ["me"])
        self.certificates = self.folder / "trust/all"
        self.schedule()
        for name in names:
            words = ["farm", "worker", self.address, *self.trust, "--name", name, "--look", "0.5"]
            self.start(name, [*HARNESS, *words, "--store", str(self.folder / f"{name}-store")])
        self.wait(lambda: {host["host"] for host in self.hosts()} >= set(names), "hosts that are there")

    def hosts(self) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = farm_status(Farm(self.address, self.certificates))["hosts"]
        except DeviceError:
            return []
        return [host for host in found if any(device["state"] != "starting" for device in host["devices"])]

    def job(self) -> str:
        return str(self.hosts()[0]["devices"][0]["job"])

    def suite(self, test: str) -> None:
        (self.folder / "test_it.py").write_text(SUITE + test)

    def words(self, *more: str, trust: str = "trust", tests: Sequence[str] = ("test_it.py",)) -> list[str]:
        words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-W", "ignore", "--tb=short", *tests]
        return [*words, "--farm", self.address, "--farm-certificates", str(self.folder / trust / "me"), *more]

    def test(self, *more: str, trust: str = "trust", seconds: float = 600, **how: Sequence[str]) -> tuple[int, str]:
        done = subprocess.run(
            self.words(*more, trust=trust, **how),
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=self.folder,
            env=dict(os.environ, PYTHONPATH=str(ROOT)),
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    def begin_long(self, *more: str) -> subprocess.Popen[bytes]:
        """A session whose first job lasts for minutes, once that runs."""
        self.suite(LONG)
        (self.folder / "begun").unlink(missing_ok=True)
        session = self.start("session", self.words(*more))
        self.wait((self.folder / "begun").exists, "job that began", 120)
        self.wait(lambda: processes(SERVER, self.folder), "job on the host")
        time.sleep(1)
        return session

    def ends(self, session: subprocess.Popen[bytes], seconds: float = 120) -> tuple[int, str]:
        code = session.wait(seconds)
        self.processes.pop("session")
        return code, (self.folder / "session.out").read_text()

    def wait_returned(self, seconds: float) -> None:
        """Until nothing of the loan runs on the host any more."""
        self.wait(lambda: not processes("harness.farm.lent.serve", self.folder), "end of the loan", seconds)


def processes(module: str, folder: Path) -> list[int]:
    """Of a module, those that come from a farm's host with its store in that folder."""
    found: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                found[int(entry.name)] = parent, (entry / "cmdline").read_text()
            except (OSError, IndexError):
                continue

    def of_folder(pid: int) -> bool:
        return pid in found and (str(folder) in found[pid][1] or of_folder(found[pid][0]))

    return sorted(pid for pid, (_, words) in found.items() if module in words and of_folder(pid))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.mark.gpu
def test_device_tests_pass_on_the_farm_and_their_reports_are_here(lab: Lab) -> None:
    lab.begin_hosts("lab1")
    tests = [f"{ROOT}/device_tests/test_quantized.py", f"{ROOT}/device_tests/test_latency.py"]
    more = ("-k", "wi4 or latency", "--rootdir", str(ROOT), "--results", str(lab.folder / "results"), "-v")
    code, said = lab.test(*more, tests=tests, seconds=900)
    assert code == 0 and "2 passed" in said, said
    assert f"devices: host (host on lab1), of the farm {lab.address}" in said
    assert "p50" in said
    runs = [path.parent for path in (lab.folder / "results").glob("*/run.json")]
    assert len(runs) == 2
    records = [json.loads((run / "run.json").read_text()) for run in runs]
    for run in runs:
        check_run(run)
    assert {record["command"]: record["device"].get("host") for record in records} == {
        "localize": "lab1",
        "bench": "lab1",
    }
    kept = {record["command"]: run for record, run in zip(records, runs, strict=True)}
    assert (kept["localize"] / "report.html").exists() and (kept["bench"] / "samples.csv").exists()
    lab.wait_returned(20)


def test_a_device_that_is_absent_and_a_stranger_are_told_in_a_sentence(lab: Lab) -> None:
    lab.begin_hosts("lab1")
    lab.suite(QUICK)
    began = time.monotonic()
    code, said = lab.test("--device", "gpu=adreno", "--farm-absent-after", "8")
    assert code == 4 and time.monotonic() - began < 60
    assert f"Waiting up to 8 s for gpu=adreno on {lab.address}" in said
    assert f"ERROR: --farm {lab.address}: No device has gpu:adreno for 8 s. Look at `harness farm status" in said
    code, said = lab.test(trust="others")
    assert code == 4 and "is not reached (TLS certificate does not match" in said
    assert "Traceback" not in said
    code, said = lab.test("--device", "host", "--device", "host@99.99.99")
    assert code == 1 and "1 passed, 1 error" in said and "99.99.99" in said, said


def test_two_devices_work_at_once_under_xdist(lab: Lab) -> None:
    pytest.importorskip("xdist")
    lab.begin_hosts("lab1", "lab2")
    lab.suite(
        "import pytest\n@pytest.mark.parametrize('n', range(3))\n"
        "def test_it(device, n, worker_id):\n    completes(device)\n"
        "    Path(f'{worker_id} {device.host} {n}').touch()\n"
    )
    code, said = lab.test("-n", "2", "--device", "host,host=lab1", "--device", "host,host=lab2")
    assert code == 0 and "6 passed" in said, said
    seen = [path.name.split() for path in lab.folder.glob("gw*")]
    assert len(seen) == 6
    # Each of them is one process's, whatever pytest-xdist deals out.
    assert len({(worker, host) for worker, host, _ in seen}) == 2
    lab.wait_returned(20)


@pytest.mark.parametrize("how", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_ctrl_c_ends_the_job_on_its_device(lab: Lab, how: tuple[str, ...]) -> None:
    lab.begin_hosts("lab1")
    session = lab.begin_long(*how)
    assert lab.job().startswith("lent to ")
    session.send_signal(signal.SIGINT)
    code, said = lab.ends(session, 60)
    assert code == 2 and "KeyboardInterrupt" in said
    lab.wait_returned(15)
    assert not processes(SERVER, lab.folder)
    lab.suite(QUICK)
    code, said = lab.test()
    assert code == 0, said


def test_a_session_that_is_killed_gives_its_device_back(lab: Lab) -> None:
    lab.begin_hosts("lab1")
    lab.begin_long()
    lab.kill("session")
    lab.wait_returned(SILENT_SECONDS + 30)
    assert not processes(SERVER, lab.folder)


def test_a_worker_that_is_killed_costs_one_job(lab: Lab) -> None:
    lab.begin_hosts("lab1")
    session = lab.begin_long()
    (phone,) = processes("harness.farm.phone", lab.folder)
    os.kill(phone, signal.SIGKILL)
    code, said = lab.ends(session)
    assert code == 1 and "1 failed, 1 passed" in said
    assert 'Lost(reason="the farm\'s process for host on lab1 went"' in said


def test_a_scheduler_that_is_killed_is_a_sentence(lab: Lab) -> None:
    lab.begin_hosts("lab1")
    session = lab.begin_long()
    lab.kill("scheduler")
    code, said = lab.ends(session)
    assert code == 1 and "2 failed" in said
    assert f"Lost(reason='the scheduler {lab.address} was lost'" in said
    assert f"DeviceError: The scheduler {lab.address} is not reached" in said
    assert "distributed" not in said.replace("distributed.dask.org", "")
    lab.wait_returned(30)


def test_a_matrix_waits_for_a_device_that_is_lent(lab: Lab) -> None:
    lab.begin_hosts("lab1")
    lab.suite(
        "def test_it(device):\n    completes(device)\n    Path('begun').touch()\n    time.sleep(20)\n"
        "    completes(device)\n    Path('over').touch()\n"
    )
    session = lab.start("session", lab.words())
    lab.wait((lab.folder / "begun").exists, "job that began", 120)
    lab.begin(lab.matrix(devices=["host"], accelerator="cpu"))
    assert lab.ends(session)[0] == 0
    client = lab.processes.pop("client")
    assert client.wait(120) == 0
    (run,) = (lab.folder / "out").glob("*/run.json")
    began = datetime.fromisoformat(json.loads(run.read_text())["started"]).timestamp()
    assert began > (lab.folder / "over").stat().st_mtime


def test_a_phone_of_the_farm_is_borrowed_by_what_it_is(lab: Lab) -> None:
    """A stand-in: real adb, a real adbd, the app's own code."""
    try:
        build()
    except MissingPart as missing:
        lacking(missing)
    make_certificates(lab.folder / "trust", ["all", "me"])
    lab.certificates = lab.folder / "trust/all"
    lab.schedule()
    serials = lab.standin_host("lab", harness=True)
    lab.suite(
        "def test_it(device, on_device):\n    completes(device)\n    completes(device)\n"
        "    assert device.facts().kind == 'android' and device.compiles == 1\n"
        f"    assert device.described()['serial'] == {serials[0]!r}\n"
        "    found = on_device.compare(models.right(), accelerator='cpu')\n    assert found.ok\n"
    )
    code, said = lab.test("--device", "pixel8a", "--farm-absent-after", "180", "-v")
    assert code == 0 and f"devices: pixel8a ({serials[0]} on lab)" in said, said
