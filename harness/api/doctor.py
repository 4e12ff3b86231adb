"""Is everything here that the harness needs? Each check does the thing rather than looking for its parts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness import __version__
from harness.core.errors import DeviceError, StorageError, in_a_clone, install_extra
from harness.core.job import Completed, Options
from harness.devices.android.adb import Adb, AdbError, Attached, Server, adb_binary
from harness.devices.android.apk import installed_elsewhere, installed_version
from harness.devices.android.ready import readiness
from harness.devices.android.recovery import UNAUTHORIZED
from harness.devices.android.users import foreground_user
from harness.devices.android.ways import ways_in
from harness.devices.cache import cache_folder
from harness.devices.execute import failure, make_job
from harness.devices.registry import attached_devices, open_device, phones
from harness.devices.web.browser import browser_program
from harness.devices.web.package import DEFAULT, MEND, is_kept
from harness.graph.build import GraphBuilder

LEAST_PYTHON = (3, 11)
LEAST_RELEASE = (2, 1, 3)
LEAST_DISK = 2 << 30

State = Literal["ok", "missing", "optional"]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it stands, and the command that mends it. `optional` lacks hinder nothing."""

    name: str
    state: State
    detail: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"name": self.name, "state": self.state, "detail": self.detail, "mend": self.mend}


def examine(results: Path) -> Iterator[Check]:
    """All checks, one by one as they are done; the GPU's takes a second or two."""
    checks: tuple[Callable[[], Check], ...] = (
        _python,
        _runtime,
        host_gpu,
        _browser,
        _adb,
        _ways,
        lambda: _disk("disk for results", results),
        lambda: _disk("disk for caches", cache_folder()),
        _sam2,
    )
    for check in checks:
        yield check()
    with suppress(DeviceError):  # its own line says so
        for phone in phones(attached_devices()):
            yield _phone(phone)


def _python() -> Check:
    version = platform.python_version()
    if sys.version_info[:2] < LEAST_PYTHON:
        return Check("Python", "missing", f"{version} is older than 3.11", "Install Python 3.11 or newer.")
    return Check("Python", "ok", version)


def _runtime() -> Check:
    try:
        release = importlib.metadata.version("ai-edge-litert")
    except importlib.metadata.PackageNotFoundError:
        return Check("ai-edge-litert", "missing", "not installed", "pip install ai-edge-litert")
    numbers = tuple(int(part) for part in release.split(".")[:3] if part.isdecimal())
    if numbers < LEAST_RELEASE:
        return Check("ai-edge-litert", "missing", f"{release} has no GPU on the host", "pip install -U ai-edge-litert")
    return Check("ai-edge-litert", "ok", release)


def host_gpu() -> Check:
    """Whether two ops run on the GPU of this machine."""
    mend = (
        "make setup  (it installs a Vulkan driver new enough for Dawn)"
        if in_a_clone()
        else "Install a Vulkan driver new enough for Dawn: Mesa 23.1 or later, as Debian 13's mesa-vulkan-drivers."
    )
    return _two_ops("GPU", "host", "missing", mend, "Update the GPU driver.")


def _browser() -> Check:
    """Nothing is fetched: a release of LiteRT.js that is not there yet is said to be missing."""
    name = f"web (LiteRT.js {DEFAULT})"
    try:
        program = browser_program()
    except DeviceError as error:
        return Check(name, "optional", error.message, f"{error.next_step}  (browsers only)")
    if not is_kept(DEFAULT):
        by_npm = "the first job fetches it by npm" if shutil.which("npm") else "npm, which fetches it, is not on PATH"
        return Check(name, "optional", f"{program}; LiteRT.js is not in the cache: {by_npm}", MEND)
    return _two_ops(name, "web", "optional", "Update the browser, or set HARNESS_BROWSER to another one.")


def _two_ops(name: str, device_name: str, lacking: State, mend: str, update: str = "") -> Check:
    """2048 + 1 - 2048 is 1, but 0 in float16, where 2049 does not exist."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 4))
    graph.output(graph.binary("SUB", graph.binary("ADD", x, graph.constant([1.0])), graph.constant([2048.0])), "y")
    inputs = {"x": np.array([[2048.0, 0.0, 1024.0, -1.0]], np.float32)}
    exact = np.array([[1.0, -2047.0, -1023.0, -2048.0]], np.float32)
    try:
        with open_device(device_name) as device:
            outcome = device.run(make_job(graph.build(), inputs, Options(), timeout=120))
    except (DeviceError, StorageError) as error:
        return Check(name, lacking, error.message, mend)
    if not isinstance(outcome, Completed):
        said = failure(f"The {device_name}", outcome, "running a two-op model").message
        return Check(name, lacking, said, mend)
    got = outcome.outputs["y"]
    half = got[0, 0] == 0.0
    expected = np.where(exact == 1.0, 0.0, exact) if half else exact
    # A browser may run both in one shader, in which nothing is stored.
    stores = "" if device_name == "web" else f"stores float{16 if half else 32}; "
    detail = f"{outcome.adapter or 'unnamed adapter'}; {stores}two ops ran fully delegated"
    if not np.array_equal(got, expected):
        return Check(name, lacking, f"{detail}, but gave {got.tolist()}", update or mend)
    return Check(name, "ok", detail)


def _adb() -> Check:
    try:
        found = phones(attached_devices())
        version = Adb(Server()).call("version").splitlines()[1].removeprefix("Version ")
    except (DeviceError, IndexError) as error:
        mend = "pip install -U adbutils  (phones only)"
        return Check("adb", "optional", getattr(error, "message", str(error)), mend)
    count = {0: "no phone", 1: "one phone"}.get(len(found), f"{len(found)} phones")
    return Check("adb", "ok", f"{version}, {count} attached; {adb_binary()}")


def _ways() -> Check:
    """How models get to a phone, the best way first; a phone may have the app already, which its own line says."""
    ways = list(ways_in())
    broken = next((way for way in ways if way.named and way.lacks), None)
    if broken is not None:
        return Check("ways to a phone", "optional", f"{broken.name}: {broken.lacks}", f"Mend or unset {broken.name}.")
    open_, shut = [way.name for way in ways if not way.lacks], [f"{w.name} ({w.lacks})" for w in ways if w.lacks]
    detail = ", then ".join(open_) or "none"
    if shut:
        detail += f"; not: {', '.join(shut)}"
    mend = (
        "" if open_ else "Give --tools a folder with LiteRT's run_model, or build the app  (phones only; docs/phone.md)"
    )
    return Check("ways to a phone", "ok" if open_ else "optional", detail, mend)


def _phone(phone: Attached) -> Check:
    """How a phone stands; it is asked and left as it is."""
    name = f"phone {phone.serial}" + (f" ({phone.product})" if phone.product else "")
    if phone.state != "device":
        mend = UNAUTHORIZED if phone.state in ("unauthorized", "no permissions") else "adb reconnect offline"
        return Check(name, "optional", phone.state, mend)
    adb = Adb(Server(), phone.serial)
    try:
        found, user = readiness(adb), foreground_user(adb)
        version, others = installed_version(adb, user), installed_elsewhere(adb, user)
    except AdbError as error:
        return Check(name, "optional", error.message, error.next_step)
    app = {None: "the app is not installed yet", __version__: f"app {version}"}.get(
        version, f"app {version}, to be replaced by {__version__}"
    )
    if others:
        app = f"the app is installed for user {others} alone"
    if user or others:
        app += f"; user {user} is in front"
    complaints = "; ".join(what for what, _ in found.complaints)
    detail = f"{found}; {app}" + (f"; not ready: {complaints}" if complaints else "")
    return Check(name, "optional" if complaints else "ok", detail, found.complaints[0][1] if complaints else "")


def _disk(name: str, folder: Path) -> Check:
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return Check(name, "missing", f"{there} cannot be asked ({error.strerror})", "Give --out another folder.")
    detail = f"{free / 1e9:.1f} GB free in {folder}"
    if free < LEAST_DISK:
        return Check(
            name,
            "missing",
            f"{detail}, under {LEAST_DISK / 1e9:.1f} GB",
            "Free space, or give --out elsewhere.",
        )
    return Check(name, "ok", detail)


def _sam2() -> Check:
    wanted = {"torch": "torch", "transformers": "transformers", "litert_torch": "litert-torch"}
    lacking = [name for module, name in wanted.items() if importlib.util.find_spec(module) is None]
    if lacking:
        return Check("SAM 2.1 workload", "optional", f"lacks {', '.join(lacking)}", install_extra("sam2"))
    return Check("SAM 2.1 workload", "ok", f"torch {importlib.metadata.version('torch')}, ready to convert")
