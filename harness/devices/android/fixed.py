"""Android's fixed-performance mode, held on a phone for as long as somebody here holds it.

`cmd power set-fixed-performance-mode-enabled true` pins the clocks at a level that the phone can hold, from Android 11
on and where the maker's power HAL knows the mode; else the command says so and fails. Nothing tells whether the mode is
on, and a boot turns it off: so it counts as off before, and is turned off afterwards.

Afterwards means also when this process is killed, the cable is pulled or the network is gone. So the phone itself puts
it back: a *guard*, a shell script there, turns the mode on, waits for the end of its standard input, which is the end
of this process, of the adb client or of the connection, and turns it off. It ignores the hangup that adbd sends then,
and waits no longer than its lease. What ends the guard too (a restart of adbd) is seen by the next command that takes
the phone, by a file that names the guard and the boot it belongs to.
"""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from contextlib import suppress

from harness.core.errors import DeviceError
from harness.devices.android.adb import ADB_SECONDS, Adb, AdbError
from harness.devices.android.apk import PACKAGE

MARKER = f"/data/local/tmp/{PACKAGE}.fixed-performance"
LEASE_SECONDS = 1200.0
MARGIN_SECONDS = 60.0
_SET = ("cmd", "power", "set-fixed-performance-mode-enabled")
_ON, _OFF = "fixed-performance: on", "fixed-performance: off"
_MOST_SAID = 4096

# Another guard that takes over writes its own name into the file; the one before then leaves the mode as it is. One
# that cannot turn the mode on puts the name of the one before back. Where no name is left, no other guard holds it.
_GUARD = """\
trap '' HUP PIPE
old=
[ -f {marker} ] && read -r old < {marker}
echo {boot} $$ > {marker} || exit 1
{on} || {{ if [ -n "$old" ]; then echo "$old" > {marker}; else rm -f {marker}; fi; exit 1; }}
echo {said_on}
timeout {lease} cat > /dev/null
boot= guard=
[ -f {marker} ] && read -r boot guard < {marker}
[ -z "$guard" ] || [ "$guard" = $$ ] || exit 0
{off} && rm -f {marker} && echo {said_off}
"""

_PUT_BACK = """\
[ -f {marker} ] || exit 0
read -r boot guard < {marker}
if [ "$boot" = {boot} ]; then
  name= state=
  [ -r "/proc/$guard/stat" ] && read -r _ name state _ < "/proc/$guard/stat"
  case "$name$state" in "(sh)Z") ;; "(sh)"*) exit 0 ;; esac
  {off} || exit 1
  echo {said_off}
fi
rm -f {marker}
"""


class FixedPerformance:
    """The mode on one phone in one boot. Whoever turns it on calls `release`."""

    def __init__(self, adb: Adb) -> None:
        self._adb = adb
        self._guard: subprocess.Popen[bytes] | None = None
        self._boot_id = ""
        self._until = 0.0

    @property
    def on(self) -> bool:
        """Whether the mode is on, as far as the guard's life tells."""
        return self._guard is not None and self._guard.poll() is None

    def hold(self, boot_id: str, seconds: float = 0.0) -> None:
        """Have the mode on for at least so many seconds from now; nothing is asked of the phone where that is so.

        Raises:
            DeviceError: the phone has no such mode, or cannot be asked.
        """
        needed = time.monotonic() + seconds + MARGIN_SECONDS
        if self.on and boot_id == self._boot_id and needed <= self._until:
            return
        before, lease = self._guard, max(LEASE_SECONDS, 2 * seconds + MARGIN_SECONDS)
        until = time.monotonic() + lease
        self._guard = None
        try:
            self._guard = self._started(boot_id, lease)
            self._boot_id, self._until = boot_id, until
        finally:  # where the mode could not be had again, nobody holds it
            if before is not None:
                _ended(before)

    def release(self) -> str:
        """Put the mode back and wait for that; why it could not be done from here, or nothing."""
        guard, self._guard = self._guard, None
        if guard is None:
            return ""
        if _OFF in _ended(guard):
            return ""
        try:  # the guard went before; nobody else has put it back where the phone did not reboot
            said = put_back(self._adb, self._boot_id)
        except AdbError as error:
            return f"fixed-performance mode: {error.message} The phone turns it off by itself."
        return "" if said is not None else "fixed-performance mode cannot be turned off; a reboot does it."

    def _started(self, boot_id: str, lease: float) -> subprocess.Popen[bytes]:
        guard = self._adb.started(_script(_GUARD, boot_id, f"{lease:.0f}"), held=True)
        said = _first_words(guard)
        if _ON in said:
            return guard
        _ended(guard)
        why = " ".join(said.replace(_OFF, "").split())[:300].rstrip(".") or "it does not answer"
        raise DeviceError(
            f"{self._adb.serial} does not turn fixed-performance mode on: {why}.",
            "Leave --fixed-performance out: not every phone has that mode.",
        )


def put_back(adb: Adb, boot_id: str) -> bool | None:
    """Turn the mode off where a guard of this boot turned it on and is gone: whether that was so; None where the phone
    refuses. Raises AdbError: the phone cannot be asked."""
    script = _script(_PUT_BACK, boot_id)
    try:
        return _OFF in adb.call("shell", script)
    except AdbError as error:
        if error.code == 1:  # the script's own; adb's for a phone that is gone is 1 too, and has its words
            with suppress(AdbError):
                if adb.boot_id() == boot_id:
                    return None
        raise


def _script(text: str, boot_id: str, lease: str = "") -> str:
    on, off = (shlex.join([*_SET, word]) for word in ("true", "false"))
    quoted = {"boot": boot_id, "marker": MARKER, "lease": lease, "said_on": _ON, "said_off": _OFF}
    return text.format(on=on, off=off, **{name: shlex.quote(value) for name, value in quoted.items()})


def _first_words(guard: subprocess.Popen[bytes]) -> str:
    """What it says until the mode is on, it ends, or nothing comes in time."""
    assert guard.stdout is not None
    said, deadline = b"", time.monotonic() + ADB_SECONDS
    while _ON.encode() + b"\n" not in said and len(said) < _MOST_SAID:
        ready, _, _ = select.select([guard.stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(guard.stdout.fileno(), _MOST_SAID) if ready else b""
        if not piece:
            break
        said += piece
    return said.decode("utf-8", "replace")


def _ended(guard: subprocess.Popen[bytes]) -> str:
    """Let a guard do its work and end; what it said. One that does not end in time has its connection cut."""
    try:
        said, _ = guard.communicate(timeout=ADB_SECONDS)
    except subprocess.TimeoutExpired:
        guard.kill()
        said, _ = guard.communicate()
    return said.decode("utf-8", "replace")
