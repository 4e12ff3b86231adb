"""The SAM 2.1 mask decoder at reduced size: every op of the published one, on 8 x 8 embeddings of 64 channels.

    python -m tests.localize.small_decoder FILE

writes it; `small_decoder` does so once, in a process of its own, and keeps the file in the cache folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import harness.sam2
from harness.devices.cache import cache_folder
from harness.graph.model import Model
from tests import small_sam2


def small_decoder() -> Model:
    """The converted decoder. Takes about 15 s the first time."""
    sources = [*sorted(Path(harness.sam2.__file__).parent.rglob("*.py")), Path(small_sam2.__file__), Path(__file__)]
    version = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    path = cache_folder() / "planted" / f"small-decoder-{version}.tflite"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.localize.small_decoder", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            raise RuntimeError(f"the small decoder could not be converted:\n{done.stderr[-2000:]}")
    return Model.load(path)


def convert(path: Path) -> None:
    """Make the decoder from random weights. Imports torch."""
    from harness.sam2.shared.contract import CARD
    from harness.sam2.shared.modules.decoder import to_tflite
    from harness.sam2.shared.weights import random_model

    made = to_tflite(random_model(small_sam2.config(), seed=7), CARD, "float32")
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(made)
    partial.replace(path)


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
