"""Where environments, converted models and the like are kept."""

from __future__ import annotations

import os
from pathlib import Path

from harness.core.errors import StorageError


def cache_folder() -> Path:
    """Where environments, converted models and the like are kept: `$HARNESS_CACHE`, else the user's cache folder. An
    absolute path, since the worker runs in another folder.

    Raises:
        StorageError: the user has no home folder, and none is named.
    """
    chosen, base = os.environ.get("HARNESS_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    if chosen:
        return Path(chosen).absolute()
    try:
        return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "litert-device-harness"
    except RuntimeError:  # neither HOME nor an entry in the list of users
        raise StorageError("This user has no home folder.", "Set HARNESS_CACHE to a folder to keep files in.") from None
