"""From weights to a folder with the graphs and constants.json, without importing torch."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

from harness.core.errors import UsageError
from harness.core.progress import Say
from harness.sam2.shared.card import code, digest, source_request, versions
from harness.sam2.shared.files import make_folder
from harness.sam2.shared.source import Source
from harness.sam2.video.contract import EXPORTED, Constants
from harness.sam2.video.conversion.convert import in_torch

CODE = (
    "shared/modules/attention.py",
    "shared/modules/decoder.py",
    "shared/modules/encoder.py",
    "shared/modules/norm.py",
    "shared/meta_checkpoint.py",
    "shared/weights.py",
    "video/contract.py",
    "video/conversion/export.py",
    "video/conversion/modules.py",
)


def export_video(
    folder: Path, source: Source, progress: Say, *, side: int | None = None, blocks: int | None = None
) -> Constants:
    """Write onnx/<graph>.onnx for every graph, and constants.json, into `folder`; gives the constants.

    `side`: for square images of that many pixels instead of the model's own. `blocks`: room for that many frame
    memories instead of its own number. About 1 minute and 3 GB of memory for the published model.
    Raises `UsageError` for unusable weights, `StorageError` for a folder that cannot be written.
    """
    if blocks is not None and not 2 <= blocks <= 64:
        raise UsageError(f"A memory bank of {blocks} frames is not possible.", "Give 2 to 64.")
    wanted = {"folder": str(make_folder(folder)), "blocks": blocks}
    in_torch({"source": source_request(source), "side": side, "export": wanted}, progress)
    return Constants.load(folder)


def cached_export(cache_dir: Path, source: Source, side: int | None, progress: Say) -> Path:
    """The folder of graphs of these weights under `cache_dir`, exported if it is not there yet. Raises as
    `export_video`."""
    onnx = f"onnx=={importlib.metadata.version('onnx')}" if _has("onnx") else "onnx absent"
    folder = cache_dir / f"sam2-video-{side or 'own'}-{digest(source.key, onnx, *versions(), code(CODE))}"
    if not all((folder / "onnx" / f"{graph}.onnx").is_file() for graph in EXPORTED) or not _whole(folder):
        partial = folder.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        export_video(partial, source, progress, side=side)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    return folder


def _whole(folder: Path) -> bool:
    try:
        Constants.load(folder)
    except UsageError:
        return False
    return True


def _has(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
