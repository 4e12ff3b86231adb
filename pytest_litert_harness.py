"""pytest on devices: `--device NAME`, repeated for several, and the fixtures that tests of models need.

Usable from any repository that installs this package. A device that is unknown or absent stops the session with a usage
error; it never skips a test.

    def test_the_gpu_is_right(on_device):
        on_device.assert_right("model.tflite")

    def test_the_masks_are_good_enough(on_device):
        assert on_device.compare("model.tflite", min_iou=0.95, min_cosine=0.999).ok

    def test_the_gpu_is_used(latency):
        assert latency("model.tflite").resident

With `--farm ADDRESS` the devices are those of a farm (docs/farm.md): tests run here, their jobs on the farm's hosts.

What `latency` measured is kept as `harness bench` keeps it, under --results, and the session ends with a table of it.

Every option and fixture has a name that is the plugin's own (`--litert-device`, `litert_on_device`) and a short one
(`--device`, `on_device`), which belongs to whoever else wants it: a suite with a `--device` of its own keeps it. This
module is loaded by every pytest run of an environment, so it imports the package only when a test asks for a device.
"""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from argparse import ArgumentError
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.api.on_device import OnDevice
    from harness.devices.android.device import PhoneOptions
    from harness.devices.base import Device
    from harness.farm.lent.session import LentDevices
    from harness.latency.record import BenchResult

_PROPERTY = "harness-latency"
_DISTRIBUTION = "litert-device-harness"
_OPTIONS: dict[str, dict[str, Any]] = {
    "device": {
        "action": "append",
        "metavar": "NAME",
        "help": "host, web, either @RELEASE, a phone; may be repeated (default: host)",
    },
    "job-timeout": {"type": float, "default": 600.0, "metavar": "S", "help": "seconds until a job is killed"},
    "apk": {"type": Path, "metavar": "FILE", "help": "a prebuilt app for phones, instead of Gradle's"},
    "tools": {"type": Path, "metavar": "DIR", "help": "LiteRT's run_model and its libraries for phones, and no app"},
    "cool-down": {"type": float, "default": 0.0, "metavar": "S", "help": "longest wait for a phone to cool down"},
    "results": {"metavar": "DIR", "help": "keep run folders and reports here (default: pytest's own folder)"},
    "farm": {"metavar": "ADDRESS", "help": "--device names devices of the farm of this scheduler, as lab1:8786"},
    "farm-certificates": {
        "metavar": "DIR",
        "type": Path,
        "help": "this node's, for --farm (default: HARNESS_FARM_CERTIFICATES)",
    },
    "farm-no-tls": {"action": "store_true", "help": "with --farm: neither certificates nor encryption"},
    "farm-absent-after": {
        "type": float,
        "default": 60.0,
        "metavar": "S",
        "help": "with --farm: longest wait for a device that no host has",
    },
}
_CERTIFICATES = "HARNESS_FARM_CERTIFICATES"
_DEALT = ("load", "loadscope", "loadfile", "worksteal")
_TOLD = "litert_farm"
"""What a worker of pytest-xdist is told of the farm's devices, so that a name is one device for all of them."""


_LENT: pytest.StashKey[LentDevices] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """`--litert-device`, `--litert-job-timeout`, `--litert-apk`, `--litert-tools`, `--litert-cool-down`,
    `--litert-results`, `--litert-farm` and its like."""
    _add(parser, "litert-")
    if getattr(pluginmanager, "_conftest_plugins", ()):  # named in a conftest.py: the hook below is over
        _add(parser, "")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None]:
    """The short names of the options, where no plugin and no conftest.py has taken them. Until then what follows one
    of them looks like a path to pytest, which looks for the first conftest.py there: that is prevented."""
    paths = getattr(early_config.known_args_namespace, "file_or_dir", [])
    short = {f"--{name}" for name, keywords in _OPTIONS.items() if "action" not in keywords or name == "device"}
    for option, value in itertools.pairwise(args):
        if option in short and value in paths:
            paths.remove(value)
    yield
    _add(parser, "")


def _add(parser: pytest.Parser, prefix: str) -> None:
    taken = set() if prefix else _taken(parser)
    # From pytest 9 on a short name that is taken shows only as it is added.
    shows = () if prefix else (ArgumentError, ValueError)
    group = parser.getgroup("litert-harness", "models on devices")
    for name, keywords in _OPTIONS.items():
        same = "" if prefix else f"; also --litert-{name}"
        if f"--{prefix}{name}" not in taken:
            with suppress(*shows):
                group.addoption(f"--{prefix}{name}", dest=_dest(name), **keywords | {"help": keywords["help"] + same})


def _taken(parser: pytest.Parser) -> set[str]:
    """The options of others, as far as pytest keeps a list of them: up to 8 it does, and complains too late."""
    groups = [getattr(parser, "_anonymous", None), *getattr(parser, "_groups", ())]
    return {name for group in groups for option in getattr(group, "options", ()) for name in option.names()}


def _dest(name: str) -> str:
    return f"litert_{name.replace('-', '_')}"


def _option(config: pytest.Config, name: str) -> Any:
    return config.getoption(_dest(name))


def _harness(module: str) -> Any:
    """A module of the package. Ends the session where another package of that name hides it."""
    found = importlib.import_module("harness")
    if getattr(found, "DISTRIBUTION", None) != _DISTRIBUTION:
        where = getattr(found, "__file__", None) or ", ".join(map(str, getattr(found, "__path__", ())))
        raise pytest.UsageError(
            f"Another package called 'harness' ({where}) hides the one of {_DISTRIBUTION}. Run `pytest` in place of "
            "`python -m pytest`, which puts the working folder first on the path, or rename that package."
        )
    return importlib.import_module(module)


def pytest_configure(config: pytest.Config) -> None:
    """Every device named must be here, or in the farm, before any test is collected."""
    if _option(config, "farm") is not None:
        config.stash[_LENT] = _borrowed(config)
        return
    for option in ("farm-certificates", "farm-no-tls"):
        if _option(config, option):
            raise pytest.UsageError(f"--{option} says how a farm is reached, and none is named: give --farm ADDRESS.")
    for name in _option(config, "device") or ():
        registry, errors = _harness("harness.devices.registry"), _harness("harness.core.errors")
        try:
            registry.check_device(name)
        except errors.HarnessError as error:
            raise pytest.UsageError(f"--device {name}: {error}") from None


def _borrowed(config: pytest.Config) -> LentDevices:
    """The farm's devices that are named; from the process that collected, where this is one of its workers."""
    errors, tls = _harness("harness.core.errors"), _harness("harness.farm.tls")
    folder = _option(config, "farm-certificates") or os.environ.get(_CERTIFICATES) or None
    no_tls, address = _option(config, "farm-no-tls"), _option(config, "farm")
    for option in ("apk", "tools"):
        if _option(config, option):
            raise pytest.UsageError(f"--{option} is of this machine, and a farm's hosts have their own: leave it out.")
    if no_tls and _option(config, "farm-certificates") is None:
        folder = None
    try:
        tls.require_packages()
        session = _harness("harness.farm.lent.session")
        farm = session.farm_at(address, Path(folder) if folder else None, no_tls, _option(config, "farm-absent-after"))
        told = getattr(config, "workerinput", {}).get(_TOLD)
        if told is not None:
            lent: LentDevices = session.LentDevices.told(farm, told)
        else:
            lent = session.LentDevices.found(farm, _names(config), lambda text: sys.stderr.write(f"{text}\n"))
    except errors.HarnessError as error:
        raise pytest.UsageError(f"--farm {address}: {error}") from None
    return lent


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist which devices the names mean."""
    lent = node.config.stash.get(_LENT, None)
    if lent is not None:
        node.workerinput[_TOLD] = lent.document()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Return the farm's devices, whatever the session came to."""
    lent = config.stash.get(_LENT, None)
    if lent is not None:
        lent.close()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Which devices this session is about, where some were named."""
    lent = config.stash.get(_LENT, None)
    if lent is not None:
        where = ", ".join(f"{name} ({lent.place(name)})" for name in _names(config))
        return f"devices: {where}, of the farm {_option(config, 'farm')}"
    named = _option(config, "device")
    return f"devices: {', '.join(named)}" if named else None


def _names(config: pytest.Config) -> list[str]:
    return list(dict.fromkeys(_option(config, "device") or ["host"]))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One run of each test for each device."""
    if "litert_device_name" in metafunc.fixturenames:
        metafunc.parametrize("litert_device_name", _names(metafunc.config), scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Under pytest-xdist with `--dist loadgroup`, and on a farm however tests are dealt out, the tests of one device go
    to one worker and none waits for it.

    A scheduler and no `xdist_group` marks: pytest-xdist 3.8 loses those under pytest 9.2, whose node ids are fixed.
    """
    lent = config.stash.get(_LENT, None)
    if config.getoption("dist") not in ("loadgroup", *(() if lent is None else _DEALT)):
        return None
    names = _names(config)
    from xdist.scheduler import LoadGroupScheduling

    class ByDevice(LoadGroupScheduling):  # type: ignore[misc]  # no types there
        def _split_scope(self, nodeid: str) -> str:
            name = device_in(nodeid, names)
            if not name:
                return str(super()._split_scope(nodeid))
            return name if lent is None else str(lent.place(name))  # two names may mean one device

    return ByDevice(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """A user's mistake in a fixture ends at the line that made it."""
    return (yield from _without_own_frames(item.config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """A user's mistake in a test ends at the line that made it."""
    return (yield from _without_own_frames(item.config))


def _without_own_frames(config: pytest.Config) -> Generator[None]:
    """Lets an error that the package tells its user end where that user's code called it; not with --full-trace."""
    try:
        return (yield)
    except BaseException as error:
        errors = sys.modules.get("harness.core.errors")
        if errors is None or not isinstance(error, errors.HarnessError):
            raise
        if not config.getoption("fulltrace", False):
            _cut(error.__traceback__, f"{Path(errors.__file__ or '').parents[1]}{os.sep}")
            error.__cause__, error.__suppress_context__ = None, True
        raise


def _cut(traceback: TracebackType | None, package: str) -> None:
    """End a traceback at the last frame of other code than the package's ahead of the package's first; what a
    decorator of the standard library puts between the two goes too."""
    caller = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if file.startswith(package):
            if caller is not None:
                caller.tb_next = None
            return
        if Path(file).name != "contextlib.py":
            caller = traceback
        traceback = traceback.tb_next


def device_in(nodeid: str, names: Sequence[str]) -> str:
    """Which of the devices `names` a test's id is about; empty for a test without a device.

    A parameter of another kind that reads like a device counts as one, which costs that test nothing but its choice of
    a worker.
    """
    parameters = f"-{nodeid.partition('[')[2].rpartition(']')[0]}-"
    return max((name for name in names if f"-{name}-" in parameters), key=len, default="")


@pytest.fixture(scope="session")
def _litert_loan(litert_device_name: str, request: pytest.FixtureRequest) -> Iterator[None]:
    """A device of a farm stays this session's from its first job until its last test has ended."""
    yield
    lent = request.config.stash.get(_LENT, None)
    if lent is not None:
        lent.give_back(litert_device_name)


@pytest.fixture(scope="session")
def litert_device(litert_device_name: str, _litert_loan: None, request: pytest.FixtureRequest) -> Iterator[Device]:
    """The device itself, started on the first job and nobody else's until the session ends."""
    with _harness("harness.devices.registry").open_device(litert_device_name, phone=_phone(request.config)) as opened:
        yield opened


@pytest.fixture(scope="session")
def litert_on_device(
    litert_device_name: str,
    _litert_loan: None,
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
) -> OnDevice:
    """The harness's commands on the chosen device."""
    kept = _option(request.config, "results")
    out = Path(kept) if kept else tmp_path_factory.mktemp("runs")
    found: OnDevice = _harness("harness.api.on_device").OnDevice(
        litert_device_name, out, _option(request.config, "job-timeout"), _phone(request.config)
    )
    return found


@pytest.fixture
def litert_latency(litert_on_device: OnDevice, request: pytest.FixtureRequest) -> Callable[..., BenchResult]:
    """Measures a model on the chosen device: `latency(model, inputs=None, *, plan=QUICK, **options)` as
    `OnDevice.bench`, giving its result, which may be invalid and says why."""

    def measured(*words: Any, **choices: Any) -> BenchResult:
        found = litert_on_device.bench(*words, **choices)
        # A property of the test's report: it reaches the table from a worker of pytest-xdist too.
        request.node.user_properties.append((_PROPERTY, to_json(found.result.to_json())))
        return found.result

    to_json = _harness("harness.core.run_folder").to_json
    return measured


@pytest.fixture(scope="session")
def device_name(litert_device_name: str) -> str:
    """The name of the chosen device, `litert_device_name` for short."""
    return litert_device_name


@pytest.fixture(scope="session")
def device(litert_device: Device) -> Device:
    """`litert_device` for short."""
    return litert_device


@pytest.fixture(scope="session")
def on_device(litert_on_device: OnDevice) -> OnDevice:
    """`litert_on_device` for short."""
    return litert_on_device


@pytest.fixture
def latency(litert_latency: Callable[..., BenchResult]) -> Callable[..., BenchResult]:
    """`litert_latency` for short."""
    return litert_latency


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A table of what the `latency` fixture measured, one line for each measurement."""
    lines = []
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                lines += [(report.nodeid, value) for name, value in report.user_properties if name == _PROPERTY]
    if not lines:
        return
    record, table = _harness("harness.latency.record"), _harness("harness.latency.table")
    terminalreporter.section("latency")
    for nodeid, document in sorted(lines, key=lambda line: line[0]):
        terminalreporter.write_line(f"{nodeid}: {table.plain_line(record.BenchResult.from_json(document))}")


def _phone(config: pytest.Config) -> PhoneOptions:
    found: PhoneOptions = _harness("harness.devices.android.device").PhoneOptions(
        _option(config, "apk"), _option(config, "cool-down"), _option(config, "tools")
    )
    return found
