"""`python -m tests.standin COMMAND…`: runs a command while a Pixel 8a that is none is attached.

The command sees it through an adb server of its own, so that `--device pixel8a` means the stand-in, whatever else is
attached to this machine. Ends with the command's exit code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

from tests.standin import app
from tests.standin.build import MissingPart
from tests.standin.phone import AdbServer, Phone, make_apk, temporary_state


def main() -> int:
    if len(sys.argv) < 2:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    with ExitStack() as stack:
        state = temporary_state()
        stack.callback(shutil.rmtree, state)
        server = AdbServer()
        os.environ["ANDROID_ADB_SERVER_PORT"] = str(server.port)
        stack.callback(server.kill)
        try:
            phone = Phone(state / "phone", app.command(socket="{socket}"))
            stack.callback(phone.close)
            phone.boot()
        except MissingPart as missing:
            sys.stderr.write(f"NOT RUN: {' '.join(sys.argv[1:])}: {missing}\n")
            return 1 if os.environ.get("CI") else 0
        phone.connect()
        os.environ["HARNESS_APK"] = str(make_apk(state))
        code = subprocess.run(sys.argv[1:], check=False).returncode
        unknown = phone.state / "unknown.log"
        if unknown.exists():
            sys.stderr.write(f"The stand-in was asked for what it does not know:\n{unknown.read_text('utf-8')}")
            return 1
        return code


if __name__ == "__main__":
    sys.exit(main())
