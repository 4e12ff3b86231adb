"""`python -m tests.standin [--no-app] COMMAND…`: runs a command while a Pixel 8a that is none is attached.

The command sees it through an adb server of its own, so that `--device pixel8a` means the stand-in, whatever else is
attached to this machine. It gets an APK for it, or with --no-app a folder of LiteRT's own tools. Ends with the
command's exit code.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack

from tests.parts import MissingPart
from tests.standin import app
from tests.standin.phone import AdbServer, Phone, make_apk, make_tools, temporary_state

NO_APP = "--no-app"


def main() -> int:
    command = sys.argv[1:]
    if no_app := command[:1] == [NO_APP]:
        del command[0]
    if not command:
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
            sys.stderr.write(f"NOT RUN: {' '.join(command)}: {missing}\n")
            return 1 if os.environ.get("CI") else 0
        phone.connect()
        os.environ.pop("HARNESS_APK", None)  # one that is named goes before the tools
        if no_app:
            os.environ["HARNESS_TOOLS"] = str(make_tools(state / "tools"))
        else:
            os.environ["HARNESS_APK"] = str(make_apk(state))
        code = subprocess.run(command, check=False).returncode
        unknown = phone.state / "unknown.log"
        if unknown.exists():
            sys.stderr.write(f"The stand-in was asked for what it does not know:\n{unknown.read_text('utf-8')}")
            return 1
        return code


if __name__ == "__main__":
    sys.exit(main())
