"""What a tap and an image cost on the CPU: LiteRT beside PyTorch eager and ONNX Runtime, same weights, one run.

    python -m benchmarks.image_path

Each model runs in a process of its own with the same number of threads, in rounds; what counts is the fastest of all
rounds. LiteRT's time is writing the inputs, running and reading the outputs. Read the ratios, not the milliseconds.
ONNX Runtime (`pip install onnxruntime`) is left out where it is not installed; torch exports the models for it.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from harness.core.job import Options
from harness.devices.cache import cache_folder
from harness.devices.execute import completed, make_job
from harness.devices.host.device import HostDevice
from harness.graph.model import Model
from harness.sam2.image_path.pipeline import Models, encode, millis
from harness.sam2.image_path.scenes import portrait
from harness.sam2.shared.card import source_request
from harness.sam2.shared.contract import CARD, ENCODER_OUTPUTS, INPUT_NAMES, OUTPUT_NAMES
from harness.sam2.shared.image import preprocess

ENGINES = ("litert", "torch", "onnx")
NAMES = {"litert": "LiteRT (XNNPACK)", "torch": "PyTorch eager (transformers)", "onnx": "ONNX Runtime"}
REPEATS = {"decoder": 10, "encoder": 2}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--weights", default=None, help="as `harness sam2 convert --weights`")
    parser.add_argument("--cache", type=Path, default=cache_folder() / "sam2")
    parser.add_argument("--only", choices=["decoder", "encoder"], default=None)
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error(f"{given.rounds} rounds measure nothing; give --rounds 1 or more")
    console = Console()
    say: Callable[[str], None] = lambda what: console.print(f"[dim]{what}[/]")  # noqa: E731
    scene = portrait()
    models = Models.of(given.cache, given.weights, variant=CARD)
    models.prepare([scene.tap], 1, say)
    engines = [name for name in ENGINES if name != "onnx" or importlib.util.find_spec("onnxruntime")]
    if "onnx" not in engines:
        console.print("[yellow]onnxruntime is not installed and is left out.[/]")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pixels = preprocess(scene.photo, models.constants().image_size)
        with HostDevice() as host:
            features = encode(host, models, pixels, "cpu", 1, 600.0).features
        sparse = scene.tap.encode(scene.photo.shape, models.constants())
        arrays: dict[str, Any] = {**features, "sparse_prompt": sparse, "image": pixels}
        np.savez(folder / "inputs.npz", allow_pickle=False, **arrays)
        (folder / "source.json").write_text(json.dumps(source_request(models.source)))
        if "onnx" in engines:
            say("exporting to ONNX")
            _child("export", "both", given.threads, folder)
        parts = [given.only] if given.only else ["decoder", "encoder"]
        best = {(part, engine): float("inf") for part in parts for engine in engines}
        for number in range(given.rounds):
            for part, engine in best:
                say(f"round {number + 1} of {given.rounds}: {part}, {NAMES[engine]}")
                if engine == "litert":
                    took = _litert(models, arrays, part, given.threads)
                else:
                    took = _child(engine, part, given.threads, folder)
                best[part, engine] = min(best[part, engine], took)
    _show(console, best, models.source.provenance, given.threads)
    if "decoder" not in parts:
        return 0
    ahead = all(best["decoder", "litert"] <= best["decoder", engine] for engine in engines)
    console.print(f"[{'green' if ahead else 'red'}]{'met' if ahead else 'MISSED'}[/] LiteRT's decoder is the fastest")
    return 0 if ahead else 1


def _show(console: Console, best: dict[tuple[str, str], float], provenance: str, threads: int) -> None:
    table = Table("part", "engine", "ms", "times LiteRT")
    for (part, engine), took in best.items():
        table.add_row(part, NAMES[engine], f"{took:.1f}", f"{took / best[part, 'litert']:.2f}")
    console.print(table)
    console.print(f"SAM 2.1 Hiera-Tiny, {provenance}, float32, {threads} threads, one image, one tap.")


def _litert(models: Models, arrays: dict[str, Any], part: str, threads: int) -> float:
    plan = models.decoder(2) if part == "decoder" else models.encoder(1)[0]
    names = INPUT_NAMES if part == "decoder" else ("image",)
    options = Options(accelerator="cpu", threads=threads)
    inputs = {name: arrays[name] for name in names}
    with HostDevice() as host:
        job = make_job(Model.load(plan.model), inputs, options, timeout=600.0, warmup=1, iterations=REPEATS[part])
        return millis(completed(host, job, f"timing the {part}"))


def _child(engine: str, part: str, threads: int, folder: Path) -> float:
    words = [sys.executable, "-m", "benchmarks.image_path", "--child", engine, part, str(threads), str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    if done.returncode:
        raise RuntimeError(f"{engine} failed on the {part}:\n{done.stderr[-2000:]}")
    return float(done.stdout.strip().splitlines()[-1])


def _fastest(run: Callable[[], object], repeats: int) -> float:
    run()
    took = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        took.append(time.perf_counter() - began)
    return min(took) * 1e3


def child(words: Sequence[str]) -> int:
    """One engine and one part, in a process of its own; prints milliseconds."""
    engine, part, threads, folder = words[0], words[1], int(words[2]), Path(words[3])
    arrays = dict(np.load(folder / "inputs.npz", allow_pickle=False))
    took = 0.0
    if engine == "onnx":
        took = _onnx(arrays, part, threads, folder)
    else:
        import torch

        from harness.sam2.shared.source import Source
        from harness.sam2.shared.weights import load

        torch.set_num_threads(threads)
        told = json.loads((folder / "source.json").read_text())
        where = None if told["folder"] is None else Path(told["folder"])
        model = load(Source(where, told["seed"], told["provenance"], told["key"])).model
        if engine == "export":
            _export(model, arrays, folder)
        else:
            took = _torch(model, arrays, part)
    sys.stdout.write(f"{took}\n")
    return 0


def _torch(model: Any, arrays: dict[str, Any], part: str) -> float:
    import torch

    given = {name: torch.from_numpy(values) for name, values in arrays.items()}
    if part == "encoder":
        with torch.inference_mode():
            return _fastest(lambda: model.get_image_embeddings(given["image"]), REPEATS[part])
    dense = model.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(given["image_embeddings"])
    positions = model.get_image_wide_positional_embeddings()

    def run() -> object:
        return model.mask_decoder(
            image_embeddings=given["image_embeddings"],
            image_positional_embeddings=positions,
            sparse_prompt_embeddings=given["sparse_prompt"][None],
            dense_prompt_embeddings=dense,
            multimask_output=True,
            high_resolution_features=[given["feat_s0"], given["feat_s1"]],
        )

    with torch.inference_mode():
        return _fastest(run, REPEATS[part])


def _export(model: Any, arrays: dict[str, Any], folder: Path) -> None:
    import torch

    from harness.sam2.shared.modules.decoder import build_decoder
    from harness.sam2.shared.modules.encoder import build_encoder

    for part, module, inputs, outputs in (
        ("decoder", build_decoder(model), INPUT_NAMES, OUTPUT_NAMES),
        ("encoder", build_encoder(model, reductions="whole"), ("image",), ENCODER_OUTPUTS),
    ):
        given = tuple(torch.from_numpy(arrays[name]) for name in inputs)
        torch.onnx.export(
            module,
            given,
            folder / f"{part}.onnx",
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=17,
            dynamo=False,
        )


def _onnx(arrays: dict[str, Any], part: str, threads: int, folder: Path) -> float:
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(str(folder / f"{part}.onnx"), options, providers=["CPUExecutionProvider"])
    given = {port.name: arrays[port.name] for port in session.get_inputs()}
    return _fastest(lambda: session.run(None, given), REPEATS[part])


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
