"""Workers that are forked: what they share with nobody, how their end is told, and what ends them."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from harness.core.job import Completed, Crashed, Options
from harness.devices.execute import make_job
from harness.devices.host import forked as module
from harness.devices.host.device import HostDevice, HostLauncher
from harness.graph.build import GraphBuilder
from harness.graph.model import Model

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
SOON = 30.0


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether a process is no more, or a zombie that nobody has asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[1])


@pytest.fixture(autouse=True)
def no_server() -> Iterator[None]:
    """Each test with servers of its own."""
    module._server.cache_clear()
    yield
    module._server.cache_clear()


@pytest.fixture
def model() -> Model:
    graph = GraphBuilder()
    graph.output(graph.unary("NEG", graph.input("x", (1, 4))), "y")
    return graph.build()


def test_two_workers_of_one_server_run_beside_each_other(model: Model) -> None:
    job = make_job(model, {"x": np.ones((1, 4), np.float32)}, Options("cpu"), timeout=60)
    with closing(HostDevice()) as one, closing(HostDevice()) as other:
        for device in (one, other, one):
            done = device.run(job)
            assert isinstance(done, Completed) and done.outputs["y"].tolist() == [[-1.0] * 4]
        assert one.pid is not None and other.pid is not None and one.pid != other.pid
        assert parent(one.pid) == parent(other.pid) != os.getpid()
        assert os.getsid(one.pid) == one.pid  # Ctrl-C is not for it
        assert Path(f"/proc/{one.pid}/cwd").resolve() == one.launcher._folder.resolve()
        pid = one.pid
        one.stop()
        assert gone(pid) and not gone(other.pid)


def test_a_benchmark_s_worker_is_no_copy(model: Model) -> None:
    with closing(HostDevice()) as device:
        device.start_anew()
        device.facts()
        assert device.pid is not None and parent(device.pid) == os.getpid()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGABRT"])
def test_a_worker_that_dies_is_told_by_its_signal_and_the_next_job_has_another(name: str, model: Model) -> None:
    job = make_job(model, {"x": np.ones((1, 4), np.float32)}, Options("cpu"), timeout=60)
    with closing(HostDevice()) as device:
        device.facts()
        first = device.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        os.kill(first, signal.Signals[name])
        os.kill(first, signal.SIGCONT)
        until(lambda: device.pid is None)
        assert device.launcher.death() == (f"the worker was ended by {name}", name)
        assert isinstance(device.run(job), Completed | Crashed)
        assert isinstance(device.run(job), Completed)
        assert device.pid not in (None, first)


def test_what_a_worker_says_is_in_its_own_log_and_its_exit_code_is_told(tmp_path: Path) -> None:
    with closing(HostLauncher(sys.executable)) as launcher:
        link = launcher.start()
        here, there = socket.socketpair()
        with here, there, (tmp_path / "log").open("ab") as log:
            missing = tmp_path / "missing"
            fds = there.fileno(), log.fileno()
            worker = module.fork(sys.executable, dict(os.environ), {}, missing, "models", *fds)
        assert worker is not None and worker.wait(SOON) == 1
        said = (tmp_path / "log").read_text("utf-8")
        assert said.startswith("Traceback") and said.endswith(f"No such file or directory: {str(missing)!r}\n")
        assert launcher.log(0) == ""
        assert launcher.pid is not None
        launcher.kill()
        assert launcher.death() == ("the worker was ended by SIGKILL", "SIGKILL")
        link.close()


def test_a_worker_whose_wire_ends_exits_with_0() -> None:
    with closing(HostLauncher(sys.executable)) as launcher:
        launcher.start().close()
        assert launcher.death() == ("the worker ended with exit code 0", "")


def test_workers_die_with_their_server_and_the_next_one_is_started_all_the_same(model: Model) -> None:
    job = make_job(model, {"x": np.ones((1, 4), np.float32)}, Options("cpu"), timeout=60)
    with closing(HostDevice()) as device:
        device.facts()
        pid = device.pid
        assert pid is not None
        os.kill(parent(pid), signal.SIGKILL)
        until(lambda: gone(pid))
        assert device.launcher.death() == ("the worker was ended by SIGKILL", "SIGKILL")
        device.stop()
        assert isinstance(device.run(job), Completed)  # by itself: there was no server to fork it
        device.stop()
        assert isinstance(device.run(job), Completed)
        assert device.pid is not None and parent(device.pid) != os.getpid()


def test_a_server_that_nobody_needs_ends() -> None:
    with closing(HostDevice()) as device:
        device.facts()
        assert device.pid is not None
        server = parent(device.pid)
        module._server.cache_clear()
        gc.collect()
        assert not gone(server)  # one of its workers is in use
    until(lambda: gone(server))


def test_another_environment_has_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(HostDevice()) as device:
        device.facts()
        assert device.pid is not None
        first = parent(device.pid)
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        device.stop()
        device.facts()
        assert device.pid is not None
        assert parent(device.pid) != first
        said = Path(f"/proc/{parent(device.pid)}/environ").read_bytes()
        assert b"\0OMP_NUM_THREADS=1\0" in b"\0" + said
        assert b"PYTEST_CURRENT_TEST" not in said


def test_a_host_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    code = (
        "import os, time\nfrom harness.devices.host.device import HostDevice\ndevice = HostDevice()\ndevice.facts()\n"
        "print(device.pid, flush=True)\ntime.sleep(600)\n"
    )
    environment = dict(os.environ, TMPDIR=str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        server = parent(pid)
        process.kill()
    until(lambda: gone(pid))
    until(lambda: gone(server))


def test_a_python_without_the_harness_is_started_by_itself_and_says_why(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho nothing of that name >&2\nexit 3\n", "utf-8")
    python.chmod(0o755)
    with closing(HostLauncher(str(python))) as launcher:
        launcher.start().close()
        assert launcher.death() == ("the worker ended with exit code 3", "")
        assert launcher.log(0) == "nothing of that name\n"


def test_a_server_that_is_stopped_keeps_nobody_waiting_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REAP_SECONDS", 0.2)
    device = HostDevice()
    device.facts()
    pid = device.pid
    assert pid is not None
    server = parent(pid)
    os.kill(server, signal.SIGSTOP)
    device.close()
    assert gone(pid)
    del device
    module._server.cache_clear()
    gc.collect()
    until(lambda: gone(server))


def test_a_process_that_the_harness_forked_does_not_keep_its_server(model: Model) -> None:
    with closing(HostDevice()) as device:
        device.facts()
        assert device.pid is not None
        server = parent(device.pid)
        child = os.fork()
        if not child:
            time.sleep(600)
            os._exit(0)
    module._server.cache_clear()
    gc.collect()
    try:
        until(lambda: gone(server))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_server_without_room_for_another_worker_keeps_those_it_has() -> None:
    psutil = pytest.importorskip("psutil")
    with closing(HostDevice()) as device, closing(HostDevice()) as other:
        device.facts()
        pid = device.pid
        assert pid is not None
        server = psutil.Process(parent(pid))
        _, hard = server.rlimit(psutil.RLIMIT_NOFILE)
        server.rlimit(psutil.RLIMIT_NOFILE, (server.num_fds() + 1, hard))
        other.facts()
        assert other.pid is not None and parent(other.pid) == os.getpid()  # by itself
        assert device.pid == pid


def test_files_in_the_user_s_folder_are_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "selectors.py").write_text(
        "import pathlib; pathlib.Path(__file__).with_name('read').touch()\n", "utf-8"
    )
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("raise SystemExit\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    with closing(HostDevice()) as device:
        device.facts()
        assert device.pid is not None and parent(device.pid) != os.getpid()
    assert not (tmp_path / "read").exists()
