"""What `host@RELEASE` installs, for every release of ai-edge-litert that the index has: harness/devices/host/pinned/.

Each file holds one release and its dependencies, with the SHA-256 of every wheel, for every platform. Needs uv.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from harness.core.errors import HarnessError
from harness.devices.host.environments import NEEDED, PINNED
from harness.devices.host.releases import OLDEST, PACKAGE, available_releases, version_of

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
SECONDS = 300.0


def command(constraints: Path) -> list[str]:
    """For uv, which reads what is to be installed from stdin. Not with the project's own configuration: its list of
    environments would make pip skip everything on a Python that is not among them, and call that a success."""
    return [
        *("uv", "pip", "compile", "-", "--no-config", "--quiet", "--universal", "--python-version", "3.11"),
        *("--generate-hashes", "--only-binary", ":all:", "--constraints", str(constraints)),
        *("--no-annotate", "--custom-compile-command", "make lock"),
    ]


def resolved(release: str, constraints: Path) -> str:
    """The file's content. Raises subprocess.CalledProcessError."""
    wanted = "\n".join((f"{PACKAGE}=={release}", *NEEDED, ""))
    done = subprocess.run(
        command(constraints), input=wanted, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True
    )
    return done.stdout


def main() -> int:
    own = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["uv"]["constraint-dependencies"]
    try:
        releases = [r for r in available_releases() if version_of(r) >= version_of(OLDEST)]
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "constraints.txt"
            constraints.write_text("\n".join(own) + "\n", "utf-8")
            contents = {release: resolved(release, constraints) for release in releases}
    except HarnessError as error:
        sys.exit(str(error))
    except (OSError, subprocess.SubprocessError) as error:
        sys.exit(
            f"uv did not resolve the releases ({error}). Install uv, and check the connection to the package index."
        )
    PINNED.mkdir(exist_ok=True)
    for release, content in contents.items():
        (PINNED / f"{release}.txt").write_text(content, "utf-8")
    print(f"{len(contents)} releases: {', '.join(contents)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
