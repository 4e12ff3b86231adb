"""Building the app with Gradle, where a clone, a JDK, an Android SDK and a network are at hand.

A `gradle` on PATH is taken where it is of the release that the app's wrapper names, or a newer one before the next
major; else the wrapper, which brings that release itself."""

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
from harness.devices.android.fetched.wrapper import JAR, NO_JAVA, Release, java, wrapper_of
from harness.devices.cache import cache_folder
from harness.devices.captured import MOST, captured

PROJECT = Path(harness.__file__).parent.parent / "android_app"
APK = "app/build/outputs/apk/bench/app-bench.apk"
GRADLE_SECONDS = 1800.0
VERSION_SECONDS = 60.0
HOW = "Build it as docs/phone.md says, or give a prebuilt one with --apk FILE."
ONLINE = "The wrapper fetches Gradle once: try again with a network, or give a prebuilt app with --apk FILE."
MOST_SAID = 600
_IS = re.compile(r"^Gradle ([0-9]+(?:\.[0-9]+){1,2})", re.M)
# What the wrapper says where Gradle itself cannot be had: Java's own words of an exception nobody caught.
_THROWN = re.compile(r'^Exception in thread "main" (.*)', re.M)
_NO_NETWORK = re.compile(r"java\.(net|io)\.\w*Exception|javax\.net\.")
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
    _build(folder, serial, progress)
    return apk


def lacking(folder: Path) -> str:
    """What is not here to build the app with; empty where all is."""
    if not folder.is_dir():
        return "the app's source (a clone has it, a wheel does not)"
    if shutil.which("gradle") is None and java() is None:
        return NO_JAVA
    sdk = os.environ.get("ANDROID_HOME") or os.environ.get("ANDROID_SDK_ROOT")
    return "" if sdk or (folder / "local.properties").is_file() else "an Android SDK (ANDROID_HOME)"


def source_digest(folder: Path) -> str:
    """SHA-256 over all that Gradle builds the app of."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        no_source = {"build", ".gradle", "test"} & set(inside.parts) or inside.suffix == ".md" or inside == JAR
        if path.is_file() and not no_source:
            digest.update(f"{inside.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def what_went_wrong(output: str) -> str:
    """Gradle's reason for a failed build in one line; its last line where it names none."""
    found = _WENT_WRONG.search(output) or _THROWN.search(output)
    said = found[1] if found else (output.strip() or "no output").splitlines()[-1]
    whole = " ".join(said.split())
    return whole if len(whole) <= MOST_SAID else f"{whole[:MOST_SAID]}…"


def _build(folder: Path, serial: str, progress: Say | None) -> None:
    apk, sources = folder / APK, source_digest(folder)
    command = [*_gradle(folder, progress), "-p", str(folder), "--quiet", ":app:assembleBench"]
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
        step = ONLINE if _NO_NETWORK.match(reason) else HOW
        raise DeviceError(f"Gradle did not build the app for {serial}: {reason}.", f"{_kept(done.output)}{step}")
    _beside(apk).write_text(sources, encoding="ascii")


def _kept(output: str) -> str:
    log = cache_folder() / "gradle.log"
    with suppress(OSError):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(output, encoding="utf-8")
        return f"All it said is in {log}. "
    return ""


def _gradle(folder: Path, progress: Say | None) -> list[str]:
    """What runs a Gradle that suits the project. Raises DeviceError: there is none, and none can be had."""
    wrapper, on_path = wrapper_of(folder), shutil.which("gradle")
    if wrapper is None:
        if on_path is None:
            raise DeviceError(f"{folder} says no release of Gradle, and none is on PATH.", HOW)
        return [on_path]
    if on_path is not None and _suits(on_path, wrapper.release):
        return [on_path]
    return wrapper.command(folder, progress)


def _suits(gradle: str, least: Release) -> bool:
    try:
        said = captured([gradle, "--version"], VERSION_SECONDS)
    except OSError:
        return False
    found = _IS.search(said.output)
    release = tuple(int(part) for part in found[1].split(".")) if found and not said.code else ()
    return release[:1] == least[:1] and (*release, 0) >= least


def _beside(apk: Path) -> Path:
    return apk.with_name(f"{apk.name}.sources")


def _digest_of(apk: Path) -> str:
    try:
        return _beside(apk).read_text(encoding="ascii")[:64]
    except (OSError, UnicodeDecodeError):
        return ""
