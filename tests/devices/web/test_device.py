"""A real browser, and whatever can go wrong in it; LiteRT.js is a stand-in that goes wrong on demand."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Crashed, Rejected, TimedOut
from harness.devices.web import browser
from harness.devices.web import device as module
from harness.devices.web.browser import BROWSER
from harness.devices.web.device import WebDevice
from tests.devices.web.conftest import asking, opened_stub

GPU = {"accelerator": "gpu"}


def processes(device: WebDevice, kind: str = "") -> list[psutil.Process]:
    """The browser's processes that run, of a kind: `gpu-process`, `renderer`."""
    first = psutil.Process(device.launcher.pid)
    every = [first, *first.children(recursive=True)]
    return [each for each in every if not kind or f"--type={kind}" in each.cmdline()]


def runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_soon(device: WebDevice, kind: str) -> threading.Timer:
    def kill() -> None:
        for process in processes(device, kind) if kind else processes(device)[:1]:
            process.kill()

    timer = threading.Timer(1.0, kill)
    timer.start()
    return timer


def is_well(device: WebDevice) -> None:
    done = device.run(asking("well"))
    assert isinstance(done, Completed)
    assert np.array_equal(done.outputs["y"], np.asarray([[1, 2, 3, 4]], np.float32))


def test_a_job_completes_with_values_samples_and_facts(stub: WebDevice) -> None:
    done = stub.run(asking("well", warmup=1, iterations=3))
    assert isinstance(done, Completed) and len(done.samples) == 3 and done.compiled and not done.residency.full
    again = stub.run(asking("well"))
    assert isinstance(again, Completed) and not again.compiled
    facts = stub.facts()
    assert (facts.name, facts.kind, facts.runtime) == ("web", "web", "2.5.3") and "Chrome" in facts.system


def test_without_iterations_a_model_is_compiled_alone(stub: WebDevice) -> None:
    done = stub.run(asking("spin", wanted=False, iterations=0))
    assert isinstance(done, Completed) and done.samples == ()


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("empty", "the runtime gave 0 outputs of a model that has 1"),
        ("noValues", "the runtime gave output 'y' without a value"),
        ("throws", "it is not to its taste"),
        ("console", "the browser complained, so that its outputs are no result: Failed to allocate tensors"),
    ],
)
def test_what_is_no_result_is_refused_with_the_evidence(stub: WebDevice, word: str, reason: str) -> None:
    done = stub.run(asking(word))
    assert isinstance(done, Rejected) and done.reason == reason
    is_well(stub)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"accelerator": "npu"}, "this device has no accelerator 'npu'"),
        ({"precision": "fp16"}, "the CPU computes in single precision, not fp16"),
        (GPU | {"precision": "fp16-fp32acc"}, "LiteRT.js has no fp16 with fp32 accumulation"),
        (GPU | {"backend": "opencl", "storage": "buffer"}, "LiteRT.js has no choice of backend, storage"),
    ],
)
def test_what_the_api_cannot_do_is_one_sentence(stub: WebDevice, options: dict[str, str], reason: str) -> None:
    done = stub.run(asking("well", options=options))
    assert isinstance(done, Rejected) and done.reason == reason


def test_a_trap_is_a_crash_and_the_next_job_has_another_browser(stub: WebDevice) -> None:
    stub.facts()
    before = stub.launcher.pid
    done = stub.run(asking("trap"))
    assert isinstance(done, Crashed) and done.reason == "WebAssembly trapped: unreachable"
    is_well(stub)
    assert stub.launcher.pid != before


@pytest.mark.gpu
def test_a_model_that_the_gpu_does_not_take_whole_is_refused(stub: WebDevice) -> None:
    done = stub.run(asking("partial", options=GPU))
    assert isinstance(done, Rejected) and done.reason == "the GPU delegate took only a part of the model"


@pytest.mark.gpu
def test_an_error_that_only_the_gpu_tells_of_is_found(stub: WebDevice) -> None:
    done = stub.run(asking("gpuError", options=GPU))
    assert isinstance(done, Rejected)
    assert done.reason.startswith("the browser complained, so that its outputs are no result: Texture size (")
    assert "more)" not in done.reason and "gpu_device.cc" in done.log
    well = stub.run(asking("well", options=GPU))
    assert isinstance(well, Completed) and well.residency.full and "WebGPU" in well.adapter


@pytest.mark.gpu
@pytest.mark.slow
def test_a_lost_gpu_is_a_crash_and_between_jobs_it_is_nobodys(stub: WebDevice) -> None:
    done = stub.run(asking("lose", options=GPU))
    assert isinstance(done, Crashed) and done.reason.startswith("the browser lost its GPU (destroyed)")
    assert isinstance(stub.run(asking("well", options=GPU)), Completed)
    kill_soon(stub, "gpu-process")
    done = stub.run(asking("wait", options=GPU))
    assert isinstance(done, Crashed) and done.reason.startswith("the browser lost its GPU (unknown)")
    assert isinstance(stub.run(asking("well", options=GPU)), Completed)
    for process in processes(stub, "gpu-process"):
        process.kill()
    time.sleep(1)
    assert isinstance(stub.run(asking("well", options=GPU)), Completed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reason", "signal_name"),
    [("renderer", "the page's process ended (crashed)", ""), ("", "the browser was ended by SIGKILL", "SIGKILL")],
    ids=["page", "browser"],
)
def test_a_killed_process_is_a_crash(stub: WebDevice, kind: str, reason: str, signal_name: str) -> None:
    is_well(stub)
    kill_soon(stub, kind)
    done = stub.run(asking("wait"))
    assert isinstance(done, Crashed) and (done.reason, done.signal) == (reason, signal_name)
    is_well(stub)


@pytest.mark.slow
def test_a_page_or_a_browser_that_hangs_is_ended_in_time(stub: WebDevice) -> None:
    is_well(stub)
    before = time.monotonic()
    assert isinstance(stub.run(asking("spin", timeout=3)), TimedOut)
    assert time.monotonic() - before < 15
    is_well(stub)
    assert stub.launcher.pid is not None
    os.killpg(stub.launcher.pid, signal.SIGSTOP)
    assert isinstance(stub.run(asking("wait", timeout=3)), TimedOut)
    is_well(stub)


def test_memory_that_is_not_there_is_a_refusal(stub: WebDevice) -> None:
    done = stub.run(asking("tooMuch"))
    assert isinstance(done, Rejected) and "rray buffer" in done.reason, done
    is_well(stub)


@pytest.mark.slow
def test_a_page_that_runs_out_of_memory_is_a_crash(
    chromium: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "ARGUMENTS", (*browser.ARGUMENTS, "--js-flags=--max-old-space-size=64"))
    device = opened_stub(monkeypatch, package)
    try:
        done = device.run(asking("fillHeap", timeout=120))
        assert isinstance(done, Crashed) and done.reason.startswith("the page's process ended ("), done
        is_well(device)
    finally:
        device.close()


@pytest.mark.slow
def test_the_browser_is_another_after_so_many_models(
    chromium: str, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_MODELS", 2)
    device = opened_stub(monkeypatch, package)
    try:
        pids = []
        for word in ("a", "a", "b", "c", "c"):
            assert isinstance(device.run(asking(word)), Completed)
            pids.append(device.launcher.pid)
        assert pids[0] == pids[1] == pids[2] and pids[3] == pids[4] != pids[0]
    finally:
        device.close()


def test_nothing_is_left_behind(chromium: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    device = opened_stub(monkeypatch, package)
    is_well(device)
    running = processes(device)
    assert len(running) > 2 and list(tmp_path.iterdir())
    device.close()
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 10
    while (left := [p for p in running if runs(p)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_the_page_and_what_works_for_it_are_known_by_their_processes(stub: WebDevice) -> None:
    is_well(stub)
    assert stub.pid in {process.pid for process in processes(stub, "renderer")}
    running = {process.pid for process in processes(stub)}
    assert stub.launcher.pid in stub.beside and set(stub.beside) <= running and stub.pid not in stub.beside


def test_the_token_is_on_no_command_line(stub: WebDevice) -> None:
    is_well(stub)
    token = stub.launcher.token
    assert not any(token in word for process in processes(stub) for word in process.cmdline())


def test_a_browser_without_webgpu_is_said_to_be_one(
    chromium: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = tmp_path / "browser"
    without.write_text(
        f'#!/bin/sh\nexec {chromium} "$@" --disable-gpu --disable-software-rasterizer\n', encoding="utf-8"
    )
    without.chmod(0o755)
    monkeypatch.setenv(BROWSER, str(without))
    device = opened_stub(monkeypatch, package)
    try:
        with pytest.raises(DeviceError, match=r"'web' has no GPU: this browser has no WebGPU adapter") as caught:
            device.run(asking("well", options=GPU))
        assert "--accelerator cpu" in caught.value.next_step
        is_well(device)
    finally:
        device.close()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            "echo 'no usable sandbox' >&2; exit 7",
            r"did not start: the browser ended with exit code 7\. no usable sandbox",
        ),
        ("kill -SEGV $$", "did not start: the browser was ended by SIGSEGV"),
    ],
)
def test_a_program_that_is_no_browser_is_said_to_be_none(
    script: str, reason: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path / "none"
    none.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    none.chmod(0o755)
    monkeypatch.setenv(BROWSER, str(none))
    device = opened_stub(monkeypatch, package)
    try:
        with pytest.raises(DeviceError, match=reason):
            device.run(asking("well"))
    finally:
        device.close()


def test_a_package_that_does_not_load_is_said_so_at_once(
    chromium: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "package"
    shutil.copytree(package, broken)
    (broken / "core/dist/index.js").write_text("throw new Error('it is broken');", encoding="utf-8")
    device = opened_stub(monkeypatch, broken)
    before = time.monotonic()
    try:
        with pytest.raises(DeviceError, match=r"'web' did not start: its page did not load \(Error: it is broken"):
            device.run(asking("well"))
    finally:
        device.close()
    assert time.monotonic() - before < 30


def test_no_browser_is_one_sentence(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(BROWSER, raising=False)
    monkeypatch.setattr("harness.devices.web.browser.MAC", tmp_path / "none")
    with pytest.raises(DeviceError, match=r"There is no browser: chromium, .* are not on PATH"):
        opened_stub(monkeypatch, package)
    monkeypatch.setenv(BROWSER, "no-such-browser")
    with pytest.raises(DeviceError, match="HARNESS_BROWSER names 'no-such-browser', which is no program"):
        opened_stub(monkeypatch, package)
