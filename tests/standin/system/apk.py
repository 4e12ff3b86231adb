"""What an APK says of itself.

The tests' quick APKs say what they are in JSON. A real one is read by Android's own tools, where the phone was given
them (`package_tools`: `aapt2` for the manifest, `apksigner` for whose it is and whether that holds), and refused as a
phone refuses it.
"""

from __future__ import annotations

import json
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

from tests.standin.system.state import PACKAGE, read, unknown

TOOL_SECONDS = 60


class Refused(Exception):
    """Why a package is not taken, in Android's words."""


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
