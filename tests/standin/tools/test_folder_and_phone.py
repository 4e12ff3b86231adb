"""The folder of tools on the phone, and a phone that is unplugged, reboots or is full."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import DeviceError
from harness.core.job import Completed, Job, Lost, Options, Rejected
from harness.devices.android import recovery
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.android.no_app.folder import tools_in
from harness.devices.execute import make_job
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.standin.conftest import Works
from tests.standin.phone import Phone, make_tools
from tests.standin.tools.conftest import ONES, Fails, tool_runs

CPU = Options("cpu")


class TestTheFolder:
    def test_is_pushed_once_and_again_when_it_changes(self, phone: Phone, tmp_path: Path, plus_one: Model) -> None:
        said: list[str] = []
        folder = make_tools(tmp_path / "tools")
        (folder / "libother.so").write_bytes((folder / "libLiteRt.so").read_bytes())

        def run() -> None:
            adb = find_phone(phone.serial)
            with ToolDevice("pixel8a", adb, folder, progress=said.append) as device:
                assert isinstance(device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=60)), Completed)

        run()
        run()
        pushed = f"pushing run_model to {phone.serial} (once)"
        assert said == [pushed]
        there = phone.data.parent / tools_in(folder).there.removeprefix("/")
        (there / "libother.so").write_bytes(b"tampered")
        run()
        assert said == [pushed] * 2
        (folder / "libother.so").rename(folder / "libthird.so")
        run()
        assert said == [pushed] * 3

    def test_without_a_library_is_one_sentence(self, phone: Phone, tmp_path: Path, quick: Job) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "libLiteRt.so").unlink()
        expected = rf'run_model of {folder} does not start on {phone.serial}: .*library "libLiteRt.so" not found'
        with (
            ToolDevice("pixel8a", find_phone(phone.serial), folder) as device,
            pytest.raises(DeviceError, match=expected),
        ):
            device.run(quick)

    def test_with_a_tool_that_cannot_be_started_is_one_sentence(self, phone: Phone, tmp_path: Path, quick: Job) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "run_model").write_text("#!/no/such/interpreter\n", "utf-8")
        with (
            ToolDevice("pixel8a", find_phone(phone.serial), folder) as device,
            pytest.raises(DeviceError, match=rf"^run_model of {folder} does not start on {phone.serial}: "),
        ):
            device.run(quick)


class TestThePhone:
    def test_unplugged_during_a_run_is_lost_and_comes_back(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        works()
        monkeypatch.setattr(recovery, "RETURN_SECONDS", 1.0)
        fails(do="hang")

        def unplug() -> None:
            while not tool_runs(phone):
                time.sleep(0.01)
            phone.stop_adbd()

        threading.Thread(target=unplug).start()
        outcome = device.run(quick)
        assert isinstance(outcome, Lost), outcome
        assert re.fullmatch(
            rf"the connection broke while run_model ran; {phone.serial} is not there: adb says (offline|absent)",
            outcome.reason,
        )
        fails()
        monkeypatch.setattr(recovery, "RETURN_SECONDS", 30.0)
        phone.boot()
        works()
        assert not tool_runs(phone)  # what the pulled cable left

    def test_that_reboots_during_a_run_is_told_by_the_boot_id(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails
    ) -> None:
        before = works().boot_id
        fails(do="hang")

        def reboot() -> None:
            while not tool_runs(phone):
                time.sleep(0.01)
            fails()
            phone.reboot()

        threading.Thread(target=reboot).start()
        outcome = device.run(quick)
        after = works().boot_id
        assert isinstance(outcome, Lost), outcome
        assert outcome.reason == (
            f"the phone rebooted during the run (boot id {before}, then {after}; its reason: kernel_panic)"
        )

    def test_that_is_full_rejects_the_model(self, phone: Phone, device: ToolDevice, works: Works) -> None:
        works()
        graph = GraphBuilder()
        weights = np.ones(1 << 20, np.float32)
        graph.output(graph.binary("ADD", graph.input("x", (1 << 20,)), graph.constant(weights)), "y")
        job = make_job(graph.build(), {"x": weights}, CPU, timeout=60, wanted=())
        filler = phone.data / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1 << 20))
        outcome = device.run(job)
        filler.unlink()
        assert isinstance(outcome, Rejected), outcome
        assert outcome.reason == "the model cannot be stored (No space left on device)"
        works()

    def test_that_is_full_has_no_room_for_the_tools(
        self, phone: Phone, tmp_path: Path, device: ToolDevice, works: Works, quick: Job
    ) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "libbig.so").write_bytes((folder / "libLiteRt.so").read_bytes() + os.urandom(300 << 20))
        with (
            ToolDevice("pixel8a", find_phone(phone.serial), folder) as full,
            pytest.raises(DeviceError, match=rf"^{phone.serial} has no room for run_model\. "),
        ):
            full.run(quick)
        shutil.rmtree(folder)
        device.stop()
        works()  # although it had to make room
