"""Gradle's wrapper: a small program of Gradle's own that fetches the release which a project names, and runs it.

The app's folder has `gradle-wrapper.properties`, as Gradle and Android Studio read it, and beside that the SHA-256 of
the program. The program itself is 50 KB of somebody else's machine code, so it is in no commit: it is fetched from
Gradle's own server on first use, refused unless it has that digest, and checked again each time before it runs. It
holds the distribution to `distributionSha256Sum`.

Run as a module (`android_app/gradlew` does), it passes its words on to Gradle.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import DeviceError, HarnessError
from harness.core.progress import Say
from harness.devices.fetched.download import Download, digest_of

FOLDER = Path("gradle", "wrapper")
JAR = FOLDER / "gradle-wrapper.jar"
PROPERTIES = FOLDER / "gradle-wrapper.properties"
DIGEST = FOLDER / "gradle-wrapper.jar.sha256"
# The wrapper of Gradle 9 has 50 KB.
MOST_BYTES = 1 << 20
_MOST_TEXT = 1 << 16
_MAIN = "org.gradle.wrapper.GradleWrapperMain"
NO_JAVA = "a JDK (JAVA_HOME)"
_DISTRIBUTION = re.compile(r"(https://\S+/gradle-([0-9]+(?:\.[0-9]+){1,2}))-(?:bin|all)\.zip")

Release = tuple[int, ...]


@dataclass(frozen=True)
class Wrapper:
    """The wrapper of a project: the release of Gradle that it runs, and the program."""

    release: Release
    program: Download

    def command(self, folder: Path, progress: Say | None = None) -> list[str]:
        """What runs Gradle for the project in that folder; the program is fetched where it is not there.

        Raises:
            DeviceError: there is no Java, or the program cannot be had.
        """
        launcher = java()
        if launcher is None:
            raise DeviceError("Gradle needs Java, which is not here.", "Install a JDK 17 or newer, or set JAVA_HOME.")
        jar = folder / JAR
        if progress and digest_of(jar) != self.program.sha256:
            progress(f"fetching Gradle's wrapper and Gradle {named(self.release)} (130 MB, once)")
        return [launcher, "-Dorg.gradle.appname=gradlew", "-classpath", str(self.program.into(jar)), _MAIN]


def wrapper_of(folder: Path) -> Wrapper | None:
    """The wrapper that a project's files name; None where it has none. Raises DeviceError: the files are damaged."""
    properties = folder / PROPERTIES
    if not properties.is_file():
        return None
    try:
        stated, digest = (_text(folder / name) for name in (PROPERTIES, DIGEST))
    except (OSError, UnicodeDecodeError):
        stated = digest = ""
    # A colon may be escaped, as all that Gradle writes is.
    address = re.search(r"^distributionUrl=(.*)$", stated, re.M)
    found = _DISTRIBUTION.fullmatch(address[1].replace("\\:", ":").strip()) if address else None
    sha256 = re.match(r"([0-9a-f]{64})\s", digest)
    checked = re.search(r"^distributionSha256Sum=[0-9a-f]{64}\s*$", stated, re.M)
    if found is None or sha256 is None or checked is None:
        raise DeviceError(
            f"{folder / FOLDER} does not say which Gradle builds the app, and by which digests.",
            f"Restore {PROPERTIES.name} and {DIGEST.name} (git checkout {folder / FOLDER}).",
        )
    release = tuple(int(part) for part in found[2].split("."))
    at = f"{found[1]}-wrapper.jar"
    by_hand = f"put {at} at {folder / JAR} yourself, or install Gradle {named(release)}"
    program = Download(
        what="Gradle's wrapper",
        expected=f"the wrapper of Gradle {named(release)}",
        address=at,
        sha256=sha256[1],
        most_bytes=MOST_BYTES,
        otherwise=f"Try again with a network, {by_hand}; --apk FILE takes a prebuilt app.",
        mend=f"Look who answers for that address; {by_hand}.",
    )
    return Wrapper(release, program)


def java() -> str | None:
    """The Java that Gradle is to run on, as Gradle's own scripts find it: JAVA_HOME's, else that of PATH."""
    home = os.environ.get("JAVA_HOME")
    of_home = shutil.which("java", path=str(Path(home, "bin"))) if home else None
    return of_home or shutil.which("java")


def named(release: Release) -> str:
    """A release as Gradle writes it."""
    return ".".join(map(str, release))


def main(words: Sequence[str]) -> int:
    """Become Gradle, with these words; an exit code where that cannot be."""
    folder = Path(words[0])
    try:
        wrapper = wrapper_of(folder)
        if wrapper is None:
            raise DeviceError(f"{folder} has no {PROPERTIES}.", "Name the app's folder.")
        command = wrapper.command(folder, _say)
    except HarnessError as error:
        _say(str(error))
        return 3
    os.execv(command[0], [*command, *words[1:]])


def _say(text: str) -> None:
    sys.stderr.write(f"gradlew: {text}\n")


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MOST_TEXT).decode("utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
