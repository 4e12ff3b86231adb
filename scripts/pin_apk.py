"""Writes down which APK belongs to a release, before its wheel is built: `python -m scripts.pin_apk APK ADDRESS`.

The harness takes from ADDRESS only what has the digest that is written here.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import harness
from harness.devices.android.released import PINNED, pinned


def pin(apk: Path, address: str, file: Path = PINNED) -> None:
    """Write the pin, and read it as the harness will. Raises OSError, DeviceError."""
    data = apk.read_bytes()
    fields = {
        "version": harness.__version__,
        "address": address,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
    }
    file.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
    print(pinned(file))


if __name__ == "__main__":
    pin(Path(sys.argv[1]), sys.argv[2])
