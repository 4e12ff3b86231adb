"""The torch half of the video workload, in a process of its own; spoken with as
`harness.sam2.shared.process` has it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.progress import Say
from harness.sam2.shared.card import requested_source
from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.files import read_arrays, write_arrays, write_bytes
from harness.sam2.shared.process import main
from harness.sam2.shared.source import Source
from harness.sam2.video.conversion.convert import graph_card


def perform(request: dict[str, Any], progress: Say) -> None:
    """Do what `request` names, with the weights that `source` says for images of `side` pixels: any of `settle`,
    `export`, `reference`, `stages`, `constants` and `graphs`, in this order."""
    progress("loading the weights")
    from harness.sam2.shared.weights import load_video
    from harness.sam2.video import scenario
    from harness.sam2.video.conversion import export, reference

    source = requested_source(request)
    model = load_video(source, request["side"])
    if (wanted := request.get("settle")) and source.is_random:
        path = Path(wanted["path"])
        if not path.exists():
            progress("teaching the random object score when nothing is to be seen")
            clip, hidden = scenario.settling_frames(wanted["frames"])
            reference.settle_scores(model, clip, scenario.motion_events(wanted["frames"]), hidden)
            write_arrays(path, reference.score_layer(model))
        reference.set_score_layer(model, read_arrays(path, ("weight", "bias")))
    if wanted := request.get("export"):
        folder = Path(wanted["folder"])
        export.export_all(model, folder, source.provenance, source.is_random, wanted["blocks"], progress)
    if wanted := request.get("reference"):
        _reference(model, wanted, progress)
    if wanted := request.get("stages"):
        _stages(model, wanted, progress)
    if wanted := request.get("constants"):
        from harness.sam2.shared.weights import prompt_constants
        from harness.sam2.video.conversion.rewritten import host_arrays

        prompt_constants(model).save(Path(wanted["prompt"]))
        write_arrays(Path(wanted["host"]), host_arrays(model))
    for wanted in request.get("graphs", ()):
        _convert(model, source, wanted, progress)


def _reference(model: Any, wanted: dict[str, Any], progress: Say) -> None:
    from harness.sam2.video.conversion import reference
    from harness.sam2.video.scenario import Event, motion_clip

    frames = list(motion_clip(wanted["frames"]))
    events = [Event.from_json(told) for told in wanted["events"]]
    found: dict[str, Any] = {}
    for number, masks, scores in reference.propagate(model, frames, events, backward=wanted["backward"]):
        progress(f"transformers' own model, frame {number} of {len(frames)}")
        for identity, mask in masks.items():
            found[f"mask.{number}.{identity}"] = mask
            found[f"score.{number}.{identity}"] = np.array(scores[identity], np.float32)
    write_arrays(Path(wanted["path"]), found)


def _convert(model: Any, source: Source, wanted: dict[str, Any], progress: Say) -> None:
    from harness.sam2.video.conversion import rewritten

    progress(f"converting {wanted['graph']}")
    content = rewritten.to_tflite(model, wanted["graph"], DecoderVariant(**wanted["variant"]), wanted["tokens"])
    write_bytes(Path(wanted["path"]), content)
    # Last, because the card's presence is what makes the model count as finished.
    write_bytes(Path(wanted["card"]), graph_card(source, wanted, content).encode())


def _stages(model: Any, wanted: dict[str, Any], progress: Say) -> None:
    import torch

    from harness.sam2.video.contract import GRAPHS, ports
    from harness.sam2.video.conversion import upstream
    from harness.sam2.video.conversion.modules import video_sizes

    sizes = video_sizes(model)
    found: dict[str, Any] = {}
    for graph in GRAPHS:
        progress(f"transformers' own {graph}")
        inputs, outputs = ports(graph, sizes)
        given = read_arrays(Path(wanted["inputs"]), [f"{graph}.{port.name}" for port in inputs])
        with torch.inference_mode():
            made = upstream.run(model, graph, [torch.from_numpy(given[f"{graph}.{p.name}"]) for p in inputs])
        found |= {f"{graph}.{port.name}": value.numpy() for port, value in zip(outputs, made, strict=True)}
    write_arrays(Path(wanted["path"]), found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], perform))
