"""A phone as a device: the app started over adb, its abstract socket reached through the adb server, its log followed.

The socket has a fresh name at each start, so that no earlier instance of the app can answer for this one.
"""

from __future__ import annotations

import re
import secrets
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError
from harness.core.job import Job, Outcome, Rejected
from harness.core.progress import Say
from harness.devices.android.adb import Adb, AdbError
from harness.devices.android.apk import INSTRUMENTATION, PACKAGE, ensure_app
from harness.devices.android.fixed import FixedPerformance, put_back
from harness.devices.android.locks import SerialLock
from harness.devices.android.logcat import Exit, Logcat, exit_of
from harness.devices.android.ready import battery_celsius, make_ready
from harness.devices.android.recovery import bring_back
from harness.devices.android.users import for_user, foreground_user, raise_if_denied
from harness.devices.base import Device, Sink
from harness.devices.execute import NO_TYPE
from harness.devices.link import Link

APP_SECONDS = 30.0
PROCESS_SECONDS = 10.0
DEATH_SECONDS = 1.0
KILL_SECONDS = 5.0
SETTLE_SECONDS = 1.0
POLL_SECONDS = 0.05
# The app's last word on each request, logged before it answers.
ANSWERED = re.compile(r"^INFO: answered \d+$", re.M)


@dataclass(frozen=True)
class PhoneOptions:
    """What a phone alone needs to be told: `apk` replaces the one that Gradle builds, `cool_down` is in seconds,
    `tools` is a folder of LiteRT's stock tools, which do without an app. `fixed_performance` has Android's mode of that
    name on while the device is open. With `return_seconds` a phone that is gone is waited for as long when the next job
    comes, and not before; else for `recovery.RETURN_SECONDS` either time."""

    apk: Path | None = None
    cool_down: float = 0.0
    tools: Path | None = None
    fixed_performance: bool = False
    return_seconds: float | None = None


class PhoneLauncher:
    """What every way to a phone has in common: its lock, its readiness, its boots."""

    def __init__(self, adb: Adb, options: PhoneOptions, progress: Say | None = None) -> None:
        self._adb = adb
        self._options = options
        self._progress = progress
        self._lock: SerialLock | None = None
        self._boot_id = ""
        self._fixed = FixedPerformance(adb)
        self.serial = ""
        """The phone's own serial number, once it was asked."""

    @property
    def adb(self) -> Adb:
        """adb on the phone."""
        return self._adb

    @property
    def boot_id(self) -> str:
        """The boot that models were last run in; empty before that."""
        return self._boot_id

    @property
    def fixed_performance(self) -> bool | None:
        """Whether the mode is on; None where nobody asked for it."""
        return self._fixed.on if self._options.fixed_performance else None

    def keep_fixed(self, seconds: float) -> None:
        """Have the mode on for so many seconds more, where it was asked for and the phone can be asked."""
        if self._options.fixed_performance and self._boot_id:
            with suppress(DeviceError):  # a phone that is gone is the job's to find
                self._fixed.hold(self._boot_id, seconds)

    def lost(self, reason: str) -> str:
        """Whether the phone is still there, and whether it rebooted."""
        try:
            patience = None if self._options.return_seconds is None else 0.0
            boot_id = bring_back(self._adb, patience, self._progress)
        except DeviceError as error:
            return f"{reason}; {error.message.removesuffix('.')}"
        if boot_id == self._boot_id:
            return f"{reason}; {self._adb.serial} is attached and did not reboot"
        why = ""
        with suppress(AdbError):
            why = self._adb.getprop("sys.boot.reason")
        return (
            f"the phone rebooted during the run (boot id {self._boot_id}, then {boot_id}"
            f"{f'; its reason: {why}' if why else ''})"
        )

    def _have_phone(self) -> None:
        """Take it, wait for it, and once a boot make it ready and install what runs models there. Raises
        DeviceError."""
        patience = self._options.return_seconds
        if self._lock is None:
            # By the phone's own number: another process may have it by cable, and this one over Wi-Fi.
            bring_back(self._adb, patience, self._progress)
            self.serial = self._adb.serialno()
            self._lock = SerialLock(self.serial)
        self._lock.take()
        boot_id = bring_back(self._adb, patience, self._progress)
        if boot_id != self._boot_id:
            if self._boot_id:
                self._note(f"the phone rebooted: boot id {self._boot_id}, then {boot_id}")
            left = put_back(self._adb, boot_id)
            if left is not False:
                ended = "is off again" if left else "cannot be turned off; a reboot does it"
                self._note(f"fixed-performance mode, left on by a command that was killed, {ended}")
            make_ready(self._adb, self._options.cool_down)
            self._install()
            self._boot_id = boot_id
        if self._options.fixed_performance:
            self._fixed.hold(boot_id)

    def _install(self) -> None:
        """Have on the phone what runs models there. Raises DeviceError."""
        raise NotImplementedError

    def _note(self, text: str) -> None:
        """Put words beside what was logged."""
        raise NotImplementedError

    def _give_back(self) -> None:
        try:
            trouble = self._fixed.release()
            if trouble:
                self._note(trouble)
                if self._progress:
                    self._progress(trouble)
        finally:
            if self._lock is not None:
                self._lock.give_back()


class AndroidLauncher(PhoneLauncher):
    """Starts and ends the app on one phone."""

    def __init__(self, adb: Adb, options: PhoneOptions, progress: Say | None = None) -> None:
        super().__init__(adb, options, progress)
        self._logcat = Logcat()
        self._pid: int | None = None
        self._socket_name = ""
        self._user = 0

    @property
    def socket_name(self) -> str:
        """The abstract name that the app listens on."""
        return self._socket_name

    @property
    def user(self) -> int:
        """The Android user for whom the app runs."""
        return self._user

    def start(self) -> Link:
        """Have the phone, make it ready, install the app where needed, start it and connect.

        Raises:
            DeviceError: one of these cannot be done; the sentence says which.
        """
        return Link(self.start_plain())

    def start_plain(self) -> socket.socket:
        """As :meth:`start`, the connection without the wire's frames. Raises DeviceError."""
        self._have_phone()
        if foreground_user(self._adb) != self._user:  # somebody else has taken the phone since
            self._install()
        self._socket_name = f"{PACKAGE}.{secrets.token_hex(8)}"
        deadline = time.monotonic() + APP_SECONDS
        before = self._pids()  # an older instance, which the system ends now, may be seen for a moment longer
        words = (*for_user(self._user), "-e", "socket", self._socket_name, INSTRUMENTATION)
        said = self._adb.shell("am", "instrument", *words, seconds=APP_SECONDS, check=False)
        raise_if_denied(self._adb, self._user, said)
        if "INSTRUMENTATION_FAILED" in said or "Exception" in said or "Error" in said:
            last = said.strip().splitlines()[0]
            raise DeviceError(
                f"The app does not start on {self._adb.serial}: {last}.",
                "Unlock the phone once if it has just booted, and look at `adb logcat`.",
            )
        self._pid = self._wait_for_pid(before)
        self._logcat.follow(self._adb, self._pid)
        return self._connect(self._pid, deadline)

    def death(self) -> tuple[str, str] | None:
        """How the app ended, if it did within a second; its tombstone goes to the log."""
        if self._pid is None:
            return None
        deadline = time.monotonic() + DEATH_SECONDS
        try:
            while self._pid in self._pids():
                if time.monotonic() >= deadline:
                    return None
                time.sleep(POLL_SECONDS)
            ended = self._exit(self._pid)
        except AdbError:
            return None  # not the app but the phone is gone
        return ended.reason, ended.signal

    def kill(self) -> None:
        """Stop the app whatever it does; a phone that cannot be told has its app stopped at the next start."""
        if self._pid is not None:
            with suppress(AdbError):
                self._adb.shell("am", "force-stop", *for_user(self._user), PACKAGE, seconds=KILL_SECONDS)
            self._pid = None
        self._logcat.stop()

    def close(self) -> None:
        """Stop the app, give the phone to others."""
        self.kill()
        self._give_back()

    def log_mark(self) -> int:
        """Size of the log so far."""
        return self._logcat.mark()

    def log(self, mark: int) -> str:
        """The log since `mark`, complete as far as the app's own last word says."""
        if self._pid is not None:
            self._logcat.settle(SETTLE_SECONDS, lambda said: ANSWERED.search(said) is not None, mark)
        return self._logcat.since(mark)

    def _install(self) -> None:
        self._user = ensure_app(self._adb, self._options.apk, self._progress)

    def _note(self, text: str) -> None:
        self._logcat.append(text)

    def _pids(self) -> list[int]:
        said = self._adb.shell("pidof", PACKAGE, check=False)
        words = said.split()
        if not all(re.fullmatch("[0-9]{1,9}", word) for word in words):
            raise AdbError("adb shell pidof", self._adb.serial, said, None, "gave no process ids")
        return [int(word) for word in words]

    def _wait_for_pid(self, before: list[int]) -> int:
        deadline = time.monotonic() + PROCESS_SECONDS
        while not (pids := [pid for pid in self._pids() if pid not in before]):
            if time.monotonic() >= deadline:
                raise DeviceError(f"The app does not stay alive on {self._adb.serial}.", "Look at `adb logcat`.")
            time.sleep(POLL_SECONDS)
        return pids[-1]

    def _connect(self, pid: int, deadline: float) -> socket.socket:
        while True:
            try:
                return self._adb.stream(f"localabstract:{self._socket_name}", deadline)
            except AdbError as error:
                if pid not in self._pids():
                    ended = self._exit(pid)
                    raise DeviceError(
                        f"The app ended as it started on {self._adb.serial}: {ended.reason}.", "Look at `adb logcat`."
                    ) from None
                if time.monotonic() >= deadline:
                    raise DeviceError(
                        f"The app on {self._adb.serial} does not open its socket: {error.message}",
                        "Run `harness doctor`.",
                    ) from None
                time.sleep(POLL_SECONDS)

    def _exit(self, pid: int) -> Exit:
        ended = exit_of(self._adb, PACKAGE, pid, self._logcat.since(0))
        if ended.tombstone:
            self._logcat.append(ended.tombstone)
        return ended


class AndroidDevice(Device):
    """A phone's CPU, GPU and NPU."""

    elsewhere = True
    narrow = True

    def __init__(
        self, name: str, adb: Adb, options: PhoneOptions | None = None, *, progress: Say | None = None
    ) -> None:
        self.launcher = AndroidLauncher(adb, options or PhoneOptions(), progress)
        super().__init__(name, "android", self.launcher)

    @property
    def serial(self) -> str:
        """The phone's own serial number, the same by cable and over Wi-Fi; empty before it was reached."""
        return self.launcher.serial

    @property
    def user(self) -> int:
        """The Android user for whom the app runs; 0 before it was started."""
        return self.launcher.user

    @property
    def fixed_performance(self) -> bool | None:
        """Whether Android's mode of that name is on; None where nobody asked for it."""
        return self.launcher.fixed_performance

    def celsius(self) -> float | None:
        """The battery's temperature; None where the phone does not tell, or cannot be asked."""
        with suppress(DeviceError):
            return battery_celsius(self.launcher.adb)
        return None

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        """As :meth:`Device.run`, in the mode that was asked for; what the app cannot pass on is rejected first."""
        reason = untransferable(job)
        if reason:
            return Rejected(reason)
        self.launcher.keep_fixed(job.timeout)
        return super().run(job, sink)

    def close(self) -> None:
        """Stop the app and give the phone back."""
        super().close()
        self.launcher.close()


KOTLIN_TYPES = ("float32", "int32", "int64", "int8", "bool")
"""What LiteRT's Kotlin API has buffers of (`TensorBuffer.kt`, v2.1.4 to the main branch of August 2026): it gives no
other way to a buffer's bytes."""


def untransferable(job: Job) -> str:
    """Why the app cannot do a job: an input, or an output that is wanted, of another type; empty where it can."""
    ports = [(f"input '{name}'", array.dtype) for name, array in job.inputs.items()]
    ports += [(f"output '{port.name}'", port.dtype) for port in job.outputs]
    for port, dtype in ports:
        if dtype.name not in KOTLIN_TYPES:
            has = f"{', '.join(KOTLIN_TYPES[:-1])} and {KOTLIN_TYPES[-1]}"
            return f"{NO_TYPE}{port} of type {dtype}: LiteRT's Kotlin API has buffers of {has} only"
    return ""
