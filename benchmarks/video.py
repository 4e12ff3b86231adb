"""The tracking loop beside transformers: frames per second on one clip, and memory over a long one.

    python -m benchmarks.video [--frames 16] [--rounds 1] [--side 256]

Speed: the motion clip with one object, once through the loop on ONNX Runtime and once through transformers'
`propagate_in_video_iterator`, in turns, each in a process of its own with the same number of threads and the same
weights. Both resize and normalize every frame. The loop's graphs always attend a whole memory bank; upstream's grows
over the first frames, so the frames after that are also given alone. Read the ratios, not the seconds.

Memory: the resident set of the loop's process, frame after frame, on `--long-frames` frames at `--long-side` pixels;
upstream's beside it, which keeps every frame.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from harness.devices.cache import cache_folder
from harness.sam2.shared.card import source_request
from harness.sam2.shared.source import resolve
from harness.sam2.video.conversion.exported import cached_export
from harness.sam2.video.scenario import Event, motion_clip, motion_events

Engine = Literal["onnx", "torch"]
NAMES: dict[Engine, str] = {"onnx": "this loop, ONNX Runtime", "torch": "transformers, PyTorch eager"}

FULL_BANK = 8
"""From this frame on upstream's memory bank is full too."""
SETTLED = 40
"""By this frame every bounded thing that the loop keeps is there."""
GROWTH_LIMIT = 0.02


@dataclass(frozen=True)
class Run:
    """One engine on one clip: when each frame was done, in seconds from the first frame's start, and the process's
    resident set then, in bytes."""

    done: list[float]
    resident: list[int]

    def rate(self, since: int = 0) -> float:
        """Frames a second, from frame `since` on."""
        times = [0.0, *self.done]
        return (len(self.done) - since) / (times[-1] - times[since])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--side", type=int, default=None, help="pixels of the model's image; default its own, 1024")
    parser.add_argument("--long-frames", type=int, default=200)
    parser.add_argument("--long-side", type=int, default=128)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--weights", default=None, help="as `harness sam2 track --weights`")
    given = parser.parse_args()
    if given.frames <= FULL_BANK or given.long_frames < 2 * SETTLED or given.rounds < 1:
        parser.error(f"give over {FULL_BANK} frames, {2 * SETTLED} long ones or more, and one round or more")
    console = Console(highlight=False, soft_wrap=True)
    source = resolve(given.weights)

    def track(engine: Engine, frames: int, side: int | None) -> Run:
        console.print(f"[dim]{NAMES[engine]}, {frames} frames at {side or 1024} pixels[/]")
        folder = cached_export(cache_folder() / "sam2", source, side, lambda what: console.print(f"[dim]{what}[/]"))
        told = {"source": source_request(source), "side": side, "frames": frames, "threads": given.threads}
        return child_run(engine, told | {"graphs": str(folder)})

    runs: dict[Engine, list[Run]] = {"onnx": [], "torch": []}
    for _ in range(given.rounds):
        for engine, found in runs.items():
            found.append(track(engine, given.frames, given.side))
    met = show_speed(console, runs)
    long = {engine: track(engine, given.long_frames, given.long_side) for engine in runs}
    met &= show_memory(console, long)
    console.print(f"SAM 2.1 Hiera-Tiny, {source.provenance}, float32, {given.threads} threads, one object.")
    return 0 if met else 1


def show_speed(console: Console, runs: dict[Engine, list[Run]]) -> bool:
    """The table of frames a second; the quickest round counts. True when the loop is the quicker, bank full or not."""
    table = Table("engine", "frames/s", f"from frame {FULL_BANK} on", "most MB after a frame")
    rates = {
        engine: [max(run.rate(since) for run in found) for since in (0, FULL_BANK)] for engine, found in runs.items()
    }
    for engine, (whole, later) in rates.items():
        most = max(max(run.resident) for run in runs[engine]) / 1e6
        table.add_row(NAMES[engine], f"{whole:.3f}", f"{later:.3f}", f"{most:.0f}")
    console.print(table)
    ratios = [ours / theirs for ours, theirs in zip(rates["onnx"], rates["torch"], strict=True)]
    what = ("the clip", f"frames {FULL_BANK} and later")
    for sentence, ratio in zip(what, ratios, strict=True):
        say(console, ratio > 1, f"{sentence}: {ratio:.2f} times transformers' frames per second (limit 1)")
    return all(ratio > 1 for ratio in ratios)


def show_memory(console: Console, runs: dict[Engine, Run]) -> bool:
    """Resident sets along the clip. True when the loop's does not grow once it has settled."""
    count = len(runs["onnx"].resident)
    places = [SETTLED, *range(50, count, 50), count - 1]
    table = Table("MB resident after frame", *(str(place) for place in places), f"growth from {SETTLED}")
    growth = {}
    for engine, run in runs.items():
        growth[engine] = max(run.resident[SETTLED:]) / run.resident[SETTLED] - 1
        table.add_row(
            NAMES[engine], *(f"{run.resident[place] / 1e6:.0f}" for place in places), f"{growth[engine]:+.1%}"
        )
    console.print(table)
    flat = growth["onnx"] <= GROWTH_LIMIT
    say(
        console,
        flat,
        f"memory grows by {growth['onnx']:.1%} over {count - 1 - SETTLED} frames (limit {GROWTH_LIMIT:.0%})",
    )
    return flat


def say(console: Console, ok: bool, sentence: str) -> None:
    """One goal."""
    console.print(f"[{'green' if ok else 'red'}]{'met' if ok else 'MISSED'}[/] {sentence}")


def child_run(engine: Engine, told: dict[str, Any]) -> Run:
    """One engine in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        request, answer = Path(scratch) / "request.json", Path(scratch) / "answer.json"
        request.write_text(json.dumps(told))
        words = [sys.executable, "-m", "benchmarks.video", "--child", engine, str(request), str(answer)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=3600, check=False)
        if done.returncode:
            raise RuntimeError(f"{NAMES[engine]} failed:\n{done.stderr[-2000:]}")
        return Run(**json.loads(answer.read_text()))


def child(words: Sequence[str]) -> int:
    """Write the run of one engine."""
    told = json.loads(Path(words[1]).read_text())
    events = (Event(0, {1: motion_events(2)[0].prompts[1]}),)
    frames = torch_frames(told, events) if words[0] == "torch" else onnx_frames(told, events)
    process, done, resident = psutil.Process(), [], []
    began = next(frames)
    for moment in frames:
        done.append(moment - began)
        resident.append(int(process.memory_info().rss))
    Path(words[2]).write_text(json.dumps(asdict(Run(done, resident))))
    return 0


def onnx_frames(told: dict[str, Any], events: Sequence[Event]) -> Iterator[float]:
    """The clock when the clip begins, models loaded, and after each frame."""
    from harness.sam2.video.onnx_stages import OnnxStages
    from harness.sam2.video.tracker import Tracker

    stages = OnnxStages(Path(told["graphs"]), threads=told["threads"])
    tracker = Tracker(stages, total=told["frames"])
    yield time.perf_counter()
    for number, frame in enumerate(motion_clip(told["frames"])):
        seen = tracker.step(frame) if number else tracker.seed(frame, events[0].prompts)
        assert seen.frame == number
        yield time.perf_counter()


def torch_frames(told: dict[str, Any], events: Sequence[Event]) -> Iterator[float]:
    """The same of transformers; preprocessing all frames, which it wants first, is in the first frame's time."""
    import torch

    from harness.sam2.shared.card import requested_source
    from harness.sam2.shared.weights import load_video
    from harness.sam2.video.conversion import reference

    torch.set_num_threads(told["threads"])
    model = load_video(requested_source(told), told["side"])
    yield time.perf_counter()
    with torch.inference_mode():
        for _ in reference.propagate(model, list(motion_clip(told["frames"])), events):
            yield time.perf_counter()


if __name__ == "__main__":
    sys.exit(child(sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main())
