"""What the process that makes the image path's models does: `python -m harness.sam2.image_path.worker REQUEST.json`.

It loads the weights once, makes what the request names (image features, references, converted models) and
ends, giving back its memory. How it is spoken with is in `harness.sam2.shared.process`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.progress import Say
from harness.sam2.image_path.convert import model_card
from harness.sam2.shared.card import requested_source
from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.files import write_arrays, write_bytes
from harness.sam2.shared.process import main
from harness.sam2.shared.source import Source


def perform(request: dict[str, Any], progress: Say) -> None:
    """Do what `request` names, in this process: any of `features`, `references` and `models`, with the weights that
    `source` says."""
    progress("loading the weights")
    from harness.sam2.image_path import reference
    from harness.sam2.shared import image, weights

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


def _convert(model: Any, source: Source, wanted: dict[str, Any], progress: Say) -> None:
    from harness.sam2.shared import weights
    from harness.sam2.shared.modules import decoder, encoder

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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], perform))
