"""pytest on devices: `--device NAME`, repeated for several, and the fixtures that tests of models need.

Usable from any repository that installs this package. A device that is unknown or absent stops the session with a usage
error; it never skips a test.

    def test_the_gpu_is_right(on_device):
        assert on_device.compare("model.tflite").ok

    def test_the_masks_are_good_enough(on_device):
        assert on_device.compare("model.tflite", min_iou=0.95, min_cosine=0.999).ok

    def test_the_gpu_is_used(latency):
        assert latency("model.tflite").resident

What `latency` measured is kept as `harness bench` keeps it, under --results, and the session ends with a table of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# Imported only when a test asks for a device: the plugin is loaded by every pytest run of an environment.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.devices.android import PhoneOptions
    from harness.devices.base import Device
    from harness.latency.record import BenchResult
    from harness.on_device import OnDevice

_PROPERTY = "harness-latency"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--device`, `--job-timeout`, `--results`, `--apk`, `--cool-down`."""
    group = parser.getgroup("harness", "models on devices")
    group.addoption(
        "--device", action="append", metavar="NAME", help="host, host@RELEASE, a phone; may be repeated (default: host)"
    )
    group.addoption("--job-timeout", type=float, default=600.0, metavar="S", help="seconds until a job is killed")
    group.addoption("--apk", type=Path, metavar="FILE", help="a prebuilt app for phones, instead of Gradle's")
    group.addoption("--cool-down", type=float, default=0.0, metavar="S", help="wait so long till a phone is cool")
    group.addoption("--results", metavar="DIR", help="keep run folders and reports here (default: pytest's own folder)")


def pytest_configure(config: pytest.Config) -> None:
    """Every device named must be here, before any test is collected."""
    for name in config.getoption("--device") or ():
        from harness.devices.registry import check_device
        from harness.errors import HarnessError

        try:
            check_device(name)
        except HarnessError as error:
            raise pytest.UsageError(f"--device {name}: {error}") from None


def pytest_report_header(config: pytest.Config) -> str:
    """Which devices this session is about."""
    return f"devices: {', '.join(config.getoption('--device') or ['host'])}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run of each test for each device."""
    if "device_name" in metafunc.fixturenames:
        names = dict.fromkeys(metafunc.config.getoption("--device") or ["host"])
        metafunc.parametrize("device_name", list(names), scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under pytest-xdist with `--dist loadgroup`, the tests of one device go to one worker and none waits for it.

    A scheduler and no `xdist_group` marks: pytest-xdist 3.8 loses those under pytest 9.2, whose node ids are fixed.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadGroupScheduling

    names = config.getoption("--device") or ["host"]

    class ByDevice(LoadGroupScheduling):  # type: ignore[misc]  # no types there
        def _split_scope(self, nodeid: str) -> str:
            return device_in(nodeid, names) or super()._split_scope(nodeid)

    return ByDevice(config, log)


def device_in(nodeid: str, names: Sequence[str]) -> str:
    """Which of the devices `names` a test's id is about; empty for a test without a device.

    A parameter of another kind that reads like a device counts as one, which costs that test nothing but its choice of
    a worker.
    """
    parameters = f"-{nodeid.partition('[')[2].rpartition(']')[0]}-"
    return max((name for name in names if f"-{name}-" in parameters), key=len, default="")


@pytest.fixture(scope="session")
def device(device_name: str, request: pytest.FixtureRequest) -> Iterator[Device]:
    """The device itself, started on the first job and nobody else's until the session ends."""
    from harness.devices.registry import open_device

    with open_device(device_name, phone=_phone(request.config)) as opened:
        yield opened


@pytest.fixture(scope="session")
def on_device(device_name: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OnDevice:
    """The harness's commands on the chosen device."""
    from harness.on_device import OnDevice

    kept = request.config.getoption("--results")
    out = Path(kept) if kept else tmp_path_factory.mktemp("runs")
    return OnDevice(device_name, out, request.config.getoption("--job-timeout"), _phone(request.config))


@pytest.fixture
def latency(on_device: OnDevice, request: pytest.FixtureRequest) -> Callable[..., BenchResult]:
    """Measures a model on the chosen device: `latency(model, inputs=None, *, plan=QUICK, **options)` as
    `OnDevice.bench`, giving its result, which may be invalid and says why."""

    def measured(*words: Any, **choices: Any) -> BenchResult:
        found = on_device.bench(*words, **choices)
        # A property of the test's report: it reaches the table from a worker of pytest-xdist too.
        request.node.user_properties.append((_PROPERTY, to_json(found.result.to_json())))
        return found.result

    from harness.results import to_json

    return measured


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of what the `latency` fixture measured, one line for each measurement."""
    lines = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                lines += [(report.nodeid, value) for name, value in report.user_properties if name == _PROPERTY]
    if not lines:
        return
    from harness.latency.record import BenchResult
    from harness.latency.table import plain_line

    terminalreporter.section("latency")
    for nodeid, document in sorted(lines, key=lambda line: line[0]):
        terminalreporter.write_line(f"{nodeid}: {plain_line(BenchResult.from_json(document))}")


def _phone(config: pytest.Config) -> PhoneOptions:
    from harness.devices.android import PhoneOptions

    return PhoneOptions(config.getoption("--apk"), config.getoption("--cool-down"))
