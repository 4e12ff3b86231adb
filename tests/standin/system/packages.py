"""The package manager of the stand-in: what `pm` knows, and what is installed. `apk.py` reads what is to be."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.standin.system.state import APK, PACKAGE, force_stop, named_user, read, say, unknown

KNOWN = Path("/data/system/packages.json")


def installed() -> dict[str, Any] | None:
    """What is known of the app that is installed; `users` are those who have it."""
    return json.loads(KNOWN.read_text("utf-8")) if KNOWN.exists() else None


def installed_for(user: int) -> bool:
    found = installed()
    return found is not None and user in found["users"]


def pm(words: list[str]) -> int:
    """Each user by number, but for an uninstall: no user is named by its being left out."""
    match words:
        case ["path", "--user", user, name] if name == PACKAGE:
            return say(f"package:{APK}\n") if installed_for(named_user(user)) else 1
        case ["install", "--user", user, *flags, path] if set(flags) <= {"-r", "-d", "-t"}:
            if not path.startswith("/data/local/tmp/"):
                unknown()
            return install(Path(path), named_user(user), set(flags))
        case ["install-existing", "--user", user, name] if name == PACKAGE and installed() is not None:
            add(named_user(user))
            return say(f"Package {PACKAGE} installed for user: {user}\n")
        case ["uninstall", name] if name == PACKAGE:
            return uninstall()
    unknown()


def add(user: int) -> None:
    known = installed()
    assert known is not None
    KNOWN.write_text(json.dumps(known | {"users": sorted({*known["users"], user})}), "utf-8")


def dumped() -> str:
    """`dumpsys package`, with a line for each user of the phone."""
    found = installed()
    if found is None:
        return f"Unable to find package: {PACKAGE}\n"
    users = "".join(
        f"    User {user}: ceDataInode=1{user} deDataInode=2{user} installed={str(user in found['users']).lower()} "
        "hidden=false suspended=false distractionFlags=0 stopped=false notLaunched=false enabled=0 instant=false\n"
        for user in read("users")["all"]
    )
    return (
        f"Packages:\n  Package [{PACKAGE}] (1b2c3d):\n    versionCode={found['versionCode']} minSdk=24\n"
        f"    versionName={found['versionName']}\n{users}"
    )


def uninstall() -> int:
    if installed() is None or read("kept") is not None:  # `kept`: an app that the phone's owner lets nobody remove
        sys.stderr.write(f"Failure [{read('kept') or 'DELETE_FAILED_INTERNAL_ERROR'}]\n")
        return 1
    force_stop()
    KNOWN.unlink()
    APK.unlink()
    return say("Success\n")


def install(path: Path, user: int, flags: set[str]) -> int:
    from tests.standin.system.apk import Refused, stated

    try:
        new = stated(path) | {"users": [user]}
        there = installed()
        if there is not None:
            if "-r" not in flags:
                raise Refused("INSTALL_FAILED_ALREADY_EXISTS: Attempt to re-install without first uninstalling.")
            if new["signer"] != there["signer"]:
                raise Refused(
                    f"INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package {PACKAGE} signatures do not match newer "
                    "version; ignoring!"
                )
            if new["versionCode"] < there["versionCode"] and "-d" not in flags:
                raise Refused("INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected")
            new["users"] = sorted({*there["users"], user})
        force_stop()
        try:
            for folder in (APK.parent, KNOWN.parent):
                folder.mkdir(parents=True, exist_ok=True)
            APK.write_bytes(path.read_bytes())
            KNOWN.write_text(json.dumps(new), "utf-8")
        except OSError:
            for file in (APK, KNOWN):
                file.unlink(missing_ok=True)
            raise Refused("INSTALL_FAILED_INSUFFICIENT_STORAGE: not enough space") from None
    except Refused as why:
        sys.stderr.write(f"Failure [{why}]\n")
        return 1
    return say("Success\n")
