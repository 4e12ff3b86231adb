"""Building the app with Gradle, where a clone, an Android SDK and a network are at hand."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

import harness
from harness.core.errors import DeviceError
from harness.core.private import as_the_user
from harness.core.progress import Say
from harness.devices.cache import cache_folder
from harness.devices.captured import MOST, captured

PROJECT = Path(harness.__file__).parent.parent / "android_app"
APK = "app/build/outputs/apk/bench/app-bench.apk"
GRADLE_SECONDS = 1800.0
HOW = "Build it as docs/phone.md says, or give a prebuilt one with --apk FILE."
MOST_SAID = 600
# Gradle's own heading of why a build failed, up to the next one (`* Try:`).
_WENT_WRONG = re.compile(r"^\* What went wrong:\n(.*?)(?:\n\* |\n*\Z)", re.MULTILINE | re.DOTALL)


def built(serial: str, project: Path | None = None, progress: Say | None = None) -> Path | None:
    """The APK of the project's sources as they are now; None where none is built and there is nothing to build it
    with. One of older sources is built anew, or, where that cannot be, used, which `progress` is told.

    Raises:
        DeviceError: the build fails; the sentence has Gradle's reason and where its log is kept.
    """
    folder = project or PROJECT
    apk = folder / APK
    if apk.is_file() and _digest_of(apk) == source_digest(folder):
        return apk
    if lacking(folder):
        if apk.is_file() and progress:
            progress(f"{apk.name} is not of these sources, and {lacking(folder)} is not here to build it anew")
        return apk if apk.is_file() else None
    if progress:
        progress("building the app with Gradle (minutes, once)")
    _build(folder, serial)
    return apk


def lacking(folder: Path) -> str:
    """What is not here to build the app with; empty where all is."""
    if not folder.is_dir():
        return "the app's source (a clone has it, a wheel does not)"
    if _gradle(folder) is None:
        return "Gradle"
    sdk = os.environ.get("ANDROID_HOME") or os.environ.get("ANDROID_SDK_ROOT")
    return "" if sdk or (folder / "local.properties").is_file() else "an Android SDK (ANDROID_HOME)"


def source_digest(folder: Path) -> str:
    """SHA-256 over all that Gradle builds the app of."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.is_file() and not {"build", ".gradle", "test"} & set(inside.parts) and inside.suffix != ".md":
            digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def what_went_wrong(output: str) -> str:
    """Gradle's reason for a failed build in one line; its last line where it names none."""
    found = _WENT_WRONG.search(output)
    said = found[1] if found else (output.strip() or "no output").splitlines()[-1]
    whole = " ".join(said.split())
    return whole if len(whole) <= MOST_SAID else f"{whole[:MOST_SAID]}…"


def _build(folder: Path, serial: str) -> None:
    apk, sources = folder / APK, source_digest(folder)
    command = [str(_gradle(folder)), "-p", str(folder), "--quiet", ":app:assembleBench"]
    try:
        with as_the_user():  # what Gradle writes is no result
            done = captured(command, GRADLE_SECONDS)
    except OSError as error:
        raise DeviceError(f"Gradle did not build the app for {serial} ({error}).", HOW) from None
    if done.killed:
        why = f"no end within {GRADLE_SECONDS:g} s" if done.killed == "time" else f"it said more than {MOST >> 20} MiB"
        raise DeviceError(f"Gradle did not build the app for {serial} ({why}).", HOW)
    if done.code or not apk.is_file():
        reason = what_went_wrong(done.output).removesuffix(".")
        raise DeviceError(f"Gradle did not build the app for {serial}: {reason}.", f"{_kept(done.output)}{HOW}")
    _beside(apk).write_text(sources, encoding="ascii")


def _kept(output: str) -> str:
    log = cache_folder() / "gradle.log"
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(output, encoding="utf-8")
        return f"All it said is in {log}. "
    return ""


def _gradle(folder: Path) -> str | None:
    wrapper = folder / "gradlew"
    return str(wrapper) if wrapper.is_file() else shutil.which("gradle")


def _beside(apk: Path) -> Path:
    return apk.with_name(f"{apk.name}.sources")


def _digest_of(apk: Path) -> str:
    try:
        return _beside(apk).read_text(encoding="ascii")[:64]
    except (OSError, UnicodeDecodeError):
        return ""
