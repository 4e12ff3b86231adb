"""Commands in a mount namespace of their own, where a folder can be full or read-only even for root."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest


def in_mount(folder: Path, options: str, command: list[str], seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command while `folder` is a tmpfs with these mount options, e.g. `size=1m`; `ro` for a read-only one.

    What it leaves in the folder is copied to `<folder>.kept` before the tmpfs goes. Skips where no namespace is given.
    """
    if not _possible():
        pytest.skip("this system gives no mount namespace")
    kept = folder.with_name(folder.name + ".kept")
    kept.mkdir()
    script = f'mount -t tmpfs -o {options} none "$0" && {{ "$@"; code=$?; cp -a "$0/." "$KEPT"; exit $code; }}'
    return subprocess.run(
        [*_unshare(), "sh", "-c", script, str(folder), *command],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env=dict(os.environ, KEPT=str(kept)),
    )


def _unshare() -> list[str]:
    return ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]


@cache
def _possible() -> bool:
    if shutil.which("unshare") is None:
        return False
    tried = subprocess.run([*_unshare(), "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0
