"""The torch half of the workload, in a process of its own.

Run as `python -m harness.sam2.worker REQUEST.json`. It loads the weights once, makes what the request names
(pixels, image features, references, converted models) and ends, giving back its memory. Its standard output
carries one JSON object per line: {"progress": words}, and at the end {"done": true}, {"usage": [message, next
step]} or {"storage": [message, next step]}. Whatever the libraries print, in Python or in C++, goes to
standard error, which the caller keeps for the case of a failure.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.devices.scratch import scratch_folder
from harness.devices.worker import die_with_parent
from harness.errors import HarnessError, StorageError, UsageError
from harness.sam2.contract import DecoderVariant, Progress
from harness.sam2.convert import model_card, require_packages
from harness.sam2.files import write_arrays, write_bytes
from harness.sam2.source import Source

TIMEOUT_SECONDS = 900.0


def run_worker(
    request: dict[str, Any],
    progress: Progress,
    timeout: float = TIMEOUT_SECONDS,
    module: str = "harness.sam2.worker",
) -> None:
    """Have `request` done in a process of its own, by the `main` of `module`; `progress` is told in words what is being
    done.

    Raises `UsageError` for unusable weights or missing packages, `StorageError` for a full disk,
    `HarnessError` when it takes longer than `timeout` seconds, and `RuntimeError` with the end of its log for
    anything else.
    """
    require_packages()
    with scratch_folder("harness-sam2-") as folder, tempfile.TemporaryFile() as log:
        file = folder / "request.json"
        file.write_text(json.dumps(request))
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
        )
        expired = threading.Event()

        def end() -> None:
            expired.set()
            process.kill()

        clock = threading.Timer(timeout, end)
        clock.start()
        assert process.stdout is not None
        try:
            with process.stdout:
                done = _listen(process.stdout, progress)
            code = process.wait()
        finally:
            clock.cancel()
            process.kill()
            process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()[-30:]
    if expired.is_set():
        raise HarnessError(f"Preparing SAM 2.1 did not end within {timeout:g} s.", "Try again on a less busy machine.")
    if code == -signal.SIGKILL:
        raise HarnessError(
            "Preparing SAM 2.1 was killed from outside, most likely for want of memory.",
            "Give it 2 GB of free memory.",
        )
    if code != 0 or not done:
        raise RuntimeError(f"preparing SAM 2.1 failed (exit code {code}); the end of its log:\n" + "\n".join(said))


def _listen(lines: IO[str], progress: Progress) -> bool:
    done = False
    for line in lines:
        told = json.loads(line)
        if "usage" in told:
            raise UsageError(*told["usage"])
        if "storage" in told:
            raise StorageError(*told["storage"])
        if "progress" in told:
            progress(told["progress"])
        done = done or bool(told.get("done"))
    return done


def perform(request: dict[str, Any], progress: Progress) -> None:
    """Do what `request` names, in this process: any of `pixels`, `features`, `references` and `models`, with the
    weights that `source` says (`pixels` needs none)."""
    from harness.sam2 import image

    if wanted := request.get("pixels"):
        progress("resizing the photo")
        pixels = image.preprocess(np.load(wanted["photo"], allow_pickle=False), wanted["size"])
        write_arrays(Path(wanted["path"]), {"image": pixels})
    if "source" not in request:
        return
    progress("loading the weights")
    from harness.sam2 import reference, weights

    source = requested_source(request)
    model = weights.load(source).model
    if constants := request.get("constants"):
        weights.prompt_constants(model).save(Path(constants))
    if wanted := request.get("features"):
        progress("running the image encoder on the photo")
        features = image.image_features(model, np.load(wanted["photo"], allow_pickle=False))
        write_arrays(Path(wanted["path"]), features)
    if wanted := request.get("references"):
        progress("running transformers' own model")
        photo = np.load(wanted["photo"], allow_pickle=False)
        arrays = reference.references(model, photo, wanted["taps"], DecoderVariant(**wanted["variant"]))
        write_arrays(Path(wanted["path"]), arrays)
    for wanted in request.get("models", ()):
        _convert(model, source, wanted, progress)


def requested_source(request: dict[str, Any]) -> Source:
    """The weights that a request names, as `convert.source_request` wrote them."""
    entry = request["source"]
    folder = None if entry["folder"] is None else Path(entry["folder"])
    return Source(folder, entry["seed"], entry["provenance"], entry["key"])


def _convert(model: Any, source: Source, wanted: dict[str, Any], progress: Progress) -> None:
    from harness.sam2 import decoder, encoder, weights

    if wanted["kind"] == "decoder":
        weights.prompt_constants(model).save(Path(wanted["constants"]))
        progress("converting the decoder")
        variant = DecoderVariant(**wanted["variant"])
        content = decoder.to_tflite(model, variant, wanted["weights"], wanted["tokens"])
    else:
        part = wanted["part"]
        progress("converting the image encoder" + ("" if part == "whole" else f", {part} half"))
        content = encoder.to_tflite(model, part, wanted["layernorm"], wanted["reductions"], wanted["weights"])
    write_bytes(Path(wanted["path"]), content)
    # Last, because the card's presence is what makes the model count as finished.
    write_bytes(Path(wanted["card"]), model_card(source, wanted, content).encode())


def main(arguments: list[str], work: Callable[[dict[str, Any], Progress], None] = perform) -> int:
    """The worker process: `arguments` is the path of the request, `work` what does it. Returns the exit code."""
    die_with_parent()
    warnings.simplefilter("ignore")
    # From here on the libraries' output, C++ included, goes to standard error; only `tell` reaches the
    # caller.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(**told: object) -> None:
        channel.write(json.dumps(told) + "\n")

    try:
        work(json.loads(Path(arguments[0]).read_text()), lambda words: tell(progress=words))
    except UsageError as error:
        tell(usage=[error.message, error.next_step])
        return 0
    except StorageError as error:
        tell(storage=[error.message, error.next_step])
        return 0
    tell(done=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
