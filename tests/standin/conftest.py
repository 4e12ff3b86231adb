"""The app's own Kotlin on the JVM, by itself and as a phone that calls itself a Pixel 8a, behind a real adbd."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.job import Completed, Job
from harness.devices.android.device import AndroidDevice, PhoneOptions
from harness.devices.base import Device
from harness.devices.registry import find_phone
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.parts import MissingPart, lacking
from tests.standin import app as kotlin
from tests.standin.app import App
from tests.standin.asking import Asker, Direct
from tests.standin.build import Build, build
from tests.standin.phone import AdbServer, Phone, make_apk, temporary_state


@pytest.fixture(scope="session")
def standin_build() -> Build:
    """The built app."""
    try:
        return build()
    except MissingPart as missing:
        lacking(missing)


@pytest.fixture(scope="module")
def app(standin_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("app"))
    yield running
    running.close()


@pytest.fixture
def asker(app: App) -> Iterator[Asker]:
    link = app.connect()
    yield Asker(link)
    link.close()


@pytest.fixture
def direct(app: App) -> Iterator[Direct]:
    device = Direct(app)
    yield device
    device.stop()


@pytest.fixture(scope="module")
def plus_one() -> Model:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
    return graph.build()


@pytest.fixture(scope="session")
def adb_server() -> Iterator[AdbServer]:
    """An adb server of the tests' own, which every adb call of the session then uses."""
    with pytest.MonkeyPatch.context() as patch:
        server = AdbServer()
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(server.port))
        yield server
        server.kill()


MakePhone = Callable[..., Phone]


@pytest.fixture(scope="session")
def make_phone(adb_server: AdbServer, standin_build: Build) -> Iterator[MakePhone]:
    """Starts phones, of a product and with so many bytes of /data; ends with those commands that no phone knew."""
    made: list[Phone] = []

    def make(product: str = "akita", **options: int) -> Phone:
        try:
            phone = Phone(temporary_state(), kotlin.command(socket="{socket}"), product, **options)
            made.append(phone)
            phone.boot()
        except MissingPart as missing:
            lacking(missing)
        phone.connect()
        return phone

    yield make
    unknown = [path.read_text("utf-8") for phone in made if (path := phone.state / "unknown.log").exists()]
    for phone in made:
        phone.close()
        shutil.rmtree(phone.state)
    assert unknown == []


@pytest.fixture(scope="session")
def phone(make_phone: MakePhone) -> Phone:
    """A Pixel 8a with little room."""
    return make_phone(data_bytes=256 << 20)


@pytest.fixture(scope="session")
def apk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_apk(tmp_path_factory.mktemp("apk"))


@pytest.fixture
def pixel(phone: Phone, apk: Path) -> Iterator[AndroidDevice]:
    """The phone as a device."""
    with AndroidDevice("pixel8a", find_phone(phone.serial), PhoneOptions(apk)) as opened:
        assert isinstance(opened, AndroidDevice)
        yield opened


Works = Callable[[], Completed]


@pytest.fixture
def works(device: Device, quick: Job) -> Works:
    """A job that must complete, `quick` of the module, on its `device`."""

    def run() -> Completed:
        outcome = device.run(quick)
        assert isinstance(outcome, Completed), outcome
        assert outcome.outputs["y"].tolist() == [[2.0, 2.0, 2.0, 2.0]]
        return outcome

    return run
