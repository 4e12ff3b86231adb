"""Debian's own adbd, the real Android Debug Bridge daemon, unpacked beside its libraries into the cache folder.

apt fetches it with a root of its own (lists, state, cache), so that the system's configuration and packages stay as
they are: on Debian from the first release that has it, on Ubuntu from the release at hand, both from the mirror that
apt uses already. The libraries down to libc come along, and its own ld.so starts it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from harness.devices.cache import cache_folder
from tests.parts import MissingPart

SUITE = "trixie"  # the first Debian release with an adbd
KEYRINGS = Path("/usr/share/keyrings")
FETCH_SECONDS = 300


@dataclass(frozen=True)
class Adbd:
    """An unpacked adbd: `command` starts it."""

    root: Path

    @property
    def command(self) -> list[str]:
        """Through its own dynamic linker, with its own libraries."""
        return [
            str(_only(self.root, "ld-linux-*.so.*")),
            "--library-path",
            ":".join(sorted({str(path.parent) for path in self.root.rglob("lib*.so.[0-9]*")})),
            str(self.root / "usr/lib/android-sdk/platform-tools/adbd"),
        ]


def fetch_adbd() -> Adbd:
    """The daemon from the cache, fetched on first use.

    Raises:
        MissingPart: it cannot be fetched here.
    """
    home = cache_folder() / "standin"
    root = home / "adbd"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "adbd.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # parallel test workers fetch it once
        if not root.exists():
            partial = home / "adbd.part"
            shutil.rmtree(partial, ignore_errors=True)
            _fetch(partial)
            partial.rename(root)
    return Adbd(root)


def _fetch(root: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise MissingPart("adbd is unpacked from Debian packages, and apt-get or dpkg-deb is not here.")
    apt = root.with_name("apt")
    shutil.rmtree(apt, ignore_errors=True)
    for folder in ("etc/preferences.d", "etc/apt.conf.d", "etc/sources.list.d", "state/lists/partial", "log"):
        (apt / folder).mkdir(parents=True)
    (apt / "cache/archives/partial").mkdir(parents=True)
    # Nothing counts as installed, so that every library down to libc is fetched.
    (apt / "state/status").touch()
    (apt / "etc/sources.list").write_text(_source(), "ascii")
    options = {
        "Dir::Etc": apt / "etc",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "state/status",
        "Dir::Cache": apt / "cache",
        "Dir::Log": apt / "log",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", "-q", *words, "update")
    _run("apt-get", "-q", "-y", *words, "--download-only", "install", "adbd")
    for package in sorted((apt / "cache/archives").glob("*.deb")):
        _run("dpkg-deb", "-x", str(package), str(root))
    shutil.rmtree(apt)


def _source() -> str:
    """One line for sources.list, from the mirror that this machine's apt uses already, or `$HARNESS_DEBIAN_MIRROR`."""
    fields = "$(ORIGIN) $(COMPONENT) $(CODENAME) $(REPO_URI)"
    listed = _run("apt-get", "indextargets", "--format", fields, "Created-By: Packages")
    # Security updates have an archive of their own, without the packages that they update.
    debian = re.search(r"^Debian main \S+ (?!\S*security)(\S+)$", listed, re.M)
    ubuntu = re.search(r"^Ubuntu universe (\w+) (?!\S*security)(\S+)$", listed, re.M)
    given = os.environ.get("HARNESS_DEBIAN_MIRROR")
    if ubuntu and not given:
        return f"deb [signed-by={KEYRINGS}/ubuntu-archive-keyring.gpg] {ubuntu[2]} {ubuntu[1]} main universe\n"
    keyring = KEYRINGS / "debian-archive-keyring.gpg"
    if (debian is None and not given) or not keyring.exists():
        raise MissingPart(
            f"adbd comes from Debian {SUITE}, and apt here uses no Debian mirror, or {keyring} is missing. "
            "Install debian-archive-keyring and set HARNESS_DEBIAN_MIRROR to a mirror's address."
        )
    return f"deb [signed-by={keyring}] {given or (debian[1] if debian else '')} {SUITE} main\n"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise MissingPart(f"adbd cannot be fetched: `{command[0]} {command[-1]}` said: {last}")
    return done.stdout


def _only(root: Path, pattern: str) -> Path:
    # usr/lib64 holds a link to the one in the architecture's folder.
    return next(path for path in sorted(root.rglob(pattern)) if not path.is_symlink())
