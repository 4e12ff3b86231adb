"""Rebuilding the site whenever a run begins, goes on or ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from harness.core.progress import SILENT, Progress
from harness.dashboard.build import Built, build

SECONDS = 2.0


def watch(
    results: Path,
    site: Path,
    *,
    bundle: bool = False,
    seconds: float = SECONDS,
    progress: Progress = SILENT,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Built]:
    """Build now, and again every few seconds; each build that changed something is yielded. A build is incremental, so
    that looking costs a `stat` for each file of each run. Ends when `wait` returns True, with its caller, or an error.

    Raises:
        UsageError, StorageError: as `build`; a full disk is told, not waited for.
    """
    yield build(results, site, bundle=bundle, progress=progress)
    while True:
        if wait(seconds) is True:
            return
        built = build(results, site, bundle=bundle)
        if built.changed:
            yield built
