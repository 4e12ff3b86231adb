"""`make demo`: the published files, else a conversion that is kept, else PyTorch is installed and converts. An argument
that is not empty names the models instead, as `harness demo --models` has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from harness.cli import demo, screen
from harness.cli.sam2_options import OWN, PUBLISHED, published_folder
from harness.core.errors import HarnessError
from harness.core.progress import Progress
from harness.sam2.shared.card import missing_packages
from harness.sam2.shared.published_files import have_published

SETUP = Path(__file__).parent / "setup.sh"
HARNESS = Path(sys.executable).parent / "harness"
SIZE = (
    "No conversion is in the cache either, so one is made here. That takes PyTorch's CPU build and "
    "the converter: 0.5 GB to download, 2 GB in .venv. "
    "The build for CUDA, which nothing here uses, would be 7 GB; it is not taken unless HARNESS_TORCH_BUILD=any."
)


def chosen(asked: str, progress: Progress) -> str:
    """What `--models` is to be. Raises `StorageError` where the published files cannot be written."""
    return asked or (PUBLISHED if have_published(published_folder(), progress) else OWN)


def needs_torch(models: str) -> bool:
    """Whether these models have to be made, by packages that are not installed."""
    return models == OWN and bool(missing_packages()) and not demo.own_is_kept()


def main(asked: str) -> int:
    """Become the demo. Gives an exit code where it comes to nothing: the set-up's, an error's, or 130 for Ctrl-C."""
    try:
        with screen.ProgressBar() as progress:
            models = chosen(asked, progress)
        if needs_torch(models):
            screen.say(SIZE)
            sys.stdout.flush()
            if status := subprocess.run([str(SETUP), "convert"], check=False).returncode:
                return status
    except HarnessError as error:
        screen.print_error(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    os.execv(HARNESS, [str(HARNESS), "demo", "--models", models])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
