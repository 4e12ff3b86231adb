"""From weights to the tracker's graphs for LiteRT on disk, once, as `harness.sam2.convert` does for images.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import UsageError
from harness.sam2.contract import SPLIT, DecoderVariant, Progress
from harness.sam2.convert import MAX_TOKENS, ModelPlan, code, digest, source_request, versions
from harness.sam2.files import make_folder
from harness.sam2.source import Source
from harness.sam2.video.contract import REWRITTEN, REWRITTEN_PORTS, Rewritten
from harness.sam2.video.host import HostConstants

CODE = (
    "attention.py",
    "contract.py",
    "decoder.py",
    "encoder.py",
    "norm.py",
    "sums.py",
    "tflite.py",
    "upsample.py",
    "weights.py",
    "video/contract.py",
    "video/modules.py",
    "video/rewritten.py",
)


@dataclass(frozen=True)
class GraphPlan(ModelPlan):
    """The file of one graph, named by a digest of everything that determines its content."""

    cache_dir: Path
    source: Source
    graph: Rewritten
    side: int | None = None
    """For square images of that many pixels; None: the model's own."""
    variant: DecoderVariant = SPLIT
    tokens: int = 2
    """Of the prompt, for the mask decoder."""

    def __post_init__(self) -> None:
        if self.variant.reductions == "compensated":
            raise UsageError("The tracker's graphs have no 'compensated' way to sum.", "Choose 'whole' or 'split'.")
        if not 1 <= self.tokens <= MAX_TOKENS:
            raise UsageError(f"A prompt of {self.tokens} tokens is not possible.", f"Give 1 to {MAX_TOKENS}.")

    @property
    def model(self) -> Path:
        """Where the .tflite is or will be."""
        tokens = f"-{self.tokens}tokens" if self.graph == "mask_decoder" else ""
        how = f"{self.graph}{tokens}-{self.side or 'own'}-{self.variant}"
        return self.cache_dir / f"sam2-video-{how}-{digest(self.source.key, how, *versions(), code(CODE))}.tflite"

    def request(self) -> dict[str, Any]:
        """What the worker is asked to make."""
        return {
            "graph": self.graph,
            "path": str(self.model),
            "card": str(self.card),
            "side": self.side,
            "variant": asdict(self.variant),
            "tokens": self.tokens,
        }


@dataclass(frozen=True)
class VideoModels:
    """The converted graphs of one set of weights, made as they are needed."""

    cache_dir: Path
    source: Source
    side: int | None = None
    variant: DecoderVariant = SPLIT

    def plan(self, graph: Rewritten, tokens: int = 2) -> GraphPlan:
        """The file of a graph; `tokens` are the prompt's, for the mask decoder."""
        return GraphPlan(self.cache_dir, self.source, graph, self.side, self.variant, tokens)

    def constants(self) -> HostConstants:
        """What the host needs beside the graphs, once `prepare` has made it. Raises `OSError` or `ValueError`."""
        prompt, host = self._constants_files()
        return HostConstants.load(prompt, host)

    def prepare(
        self, tokens: Iterable[int], progress: Progress, graphs: Sequence[Rewritten] = REWRITTEN
    ) -> list[GraphPlan]:
        """Convert those of `graphs`, the mask decoder for each number of prompt `tokens`, that are not there yet, in a
        process that loads the weights once. Gives those it had to make.

        At full size about 3 GB of memory. Raises `UsageError` for unusable weights or missing packages, `StorageError`
        for a folder that cannot be written.
        """
        from harness.sam2.video.worker import run_video_worker

        make_folder(self.cache_dir)
        plans = [self.plan(graph) for graph in graphs if graph != "mask_decoder"]
        if "mask_decoder" in graphs:
            plans += [self.plan("mask_decoder", count) for count in sorted(set(tokens))]
        missing = [plan for plan in plans if not plan.is_there()]
        prompt, host = self._constants_files()
        request: dict[str, Any] = {"source": source_request(self.source), "side": self.side}
        request["graphs"] = [plan.request() for plan in missing]
        try:
            self.constants()
        except (OSError, ValueError):
            request["constants"] = {"prompt": str(prompt), "host": str(host)}
        if missing or "constants" in request:
            run_video_worker(request, progress)
        return missing

    def _constants_files(self) -> tuple[Path, Path]:
        key = digest(self.source.key, str(self.side), code(("prompt.py", "weights.py", "video/rewritten.py")))
        stem = f"sam2-video-host-{self.side or 'own'}-{key}"
        return self.cache_dir / f"{stem}-prompt.npz", self.cache_dir / f"{stem}.npz"


def graph_card(source: Source, wanted: dict[str, Any], content: bytes) -> str:
    """The .json beside a graph: what it is, from which weights, made by which releases. `wanted` is its request."""
    graph: Rewritten = wanted["graph"]
    inputs, outputs = REWRITTEN_PORTS[graph]
    tokens = {"tokens": wanted["tokens"]} if graph == "mask_decoder" else {}
    card = {
        "schema": 1,
        "model": f"{source.model} video {graph.replace('_', ' ')}",
        "provenance": source.provenance,
        "is_random": source.is_random,
        "side": wanted["side"],
        **wanted["variant"],
        **tokens,
        "inputs": list(inputs),
        "outputs": list(outputs),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "made_by": [*versions(), f"Python {platform.python_version()}"],
    }
    return json.dumps(card, indent=2) + "\n"
