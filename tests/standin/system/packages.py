"""The package manager of the stand-in: what `pm` knows, and what is installed.

The tests' quick APKs say what they are in JSON. A real one is read by Android's own tools, where the phone was given
them (`package_tools`: `aapt2` for the manifest, `apksigner` for whose it is and whether that holds), and refused as a
phone refuses it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests.standin.system.state import PACKAGE, force_stop, named_user, read, say, unknown

APK = Path(f"/data/app/~~standin/{PACKAGE}-1/base.apk")
KNOWN = Path("/data/system/packages.json")
TOOL_SECONDS = 60


class Refused(Exception):
    """Why a package is not taken, in Android's words."""


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


def stated(path: Path) -> dict[str, Any]:
    """Version, version code and signer of an APK. Raises Refused: it is none, of another package, or its signature does
    not hold."""
    try:
        with zipfile.ZipFile(path) as archive:
            if "AndroidManifest.json" in archive.namelist():
                quick: dict[str, Any] = json.loads(archive.read("AndroidManifest.json"))
                return quick
    except (OSError, zipfile.BadZipFile):
        raise Refused("INSTALL_PARSE_FAILED_NOT_APK: Failed to parse the APK") from None
    tools = read("package_tools")
    if tools is None:
        raise Refused("INSTALL_PARSE_FAILED_NOT_APK: Failed to parse the APK")
    badging = told("INSTALL_PARSE_FAILED_NOT_APK", *tools["aapt2"], "dump", "badging", str(path))
    named = re.search(r"^package: name='(\S+)' versionCode='(\d+)' versionName='(\S*)'", badging, re.M)
    if named is None or named[1] != PACKAGE:
        unknown()
    words = ("verify", "--min-sdk-version", "34", "--print-certs", str(path))
    certificates = told("INSTALL_PARSE_FAILED_NO_CERTIFICATES", *tools["apksigner"], *words)
    signer = re.search(r"certificate SHA-256 digest: ([0-9a-f]{64})$", certificates, re.M)
    assert signer is not None, certificates
    return {"versionName": named[3], "versionCode": int(named[2]), "signer": signer[1]}


def told(refusal: str, *command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False)
    if done.returncode:
        why = (done.stdout.strip() or done.stderr.strip() or "no reason").splitlines()[-1]
        raise Refused(f"{refusal}: {why}")
    return done.stdout
