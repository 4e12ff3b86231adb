"""From weights to the tracker's graphs for LiteRT on disk, once, as `harness.sam2.image_path.convert` does for images.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core.errors import UsageError
from harness.core.progress import Say
from harness.sam2.shared.card import MAX_TOKENS, ModelPlan, card, code, digest, source_request, versions
from harness.sam2.shared.contract import SPLIT, DecoderVariant
from harness.sam2.shared.files import make_folder
from harness.sam2.shared.process import run_worker
from harness.sam2.shared.source import Source
from harness.sam2.video.contract import REWRITTEN, REWRITTEN_PORTS, Rewritten
from harness.sam2.video.host import HostConstants

TIMEOUT_SECONDS = 4 * 3600.0
"""The reference of a full-size clip takes long on a busy machine."""

CODE = (
    "shared/modules/attention.py",
    "shared/contract.py",
    "shared/meta_checkpoint.py",
    "shared/modules/decoder.py",
    "shared/modules/encoder.py",
    "shared/modules/norm.py",
    "shared/modules/sums.py",
    "shared/modules/tflite.py",
    "shared/modules/upsample.py",
    "shared/weights.py",
    "video/contract.py",
    "video/conversion/modules.py",
    "video/conversion/rewritten.py",
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

    def prepare(self, tokens: Iterable[int], progress: Say, graphs: Sequence[Rewritten] = REWRITTEN) -> list[GraphPlan]:
        """Convert those of `graphs`, the mask decoder for each number of prompt `tokens`, that are not there yet, in a
        process that loads the weights once. Gives those it had to make.

        At full size about 3 GB of memory. Raises `UsageError` for unusable weights or missing packages, `StorageError`
        for a folder that cannot be written.
        """
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
            in_torch(request, progress)
        return missing

    def _constants_files(self) -> tuple[Path, Path]:
        key = digest(
            self.source.key,
            str(self.side),
            code(
                ("shared/meta_checkpoint.py", "shared/prompt.py", "shared/weights.py", "video/conversion/rewritten.py")
            ),
        )
        stem = f"sam2-video-host-{self.side or 'own'}-{key}"
        return self.cache_dir / f"{stem}-prompt.npz", self.cache_dir / f"{stem}.npz"


def in_torch(request: dict[str, Any], progress: Say) -> None:
    """Have what `worker.perform` can do done in a process of its own. Raises as `run_worker`."""
    run_worker(request, progress, "harness.sam2.video.conversion.worker", TIMEOUT_SECONDS)


def graph_card(source: Source, wanted: dict[str, Any], content: bytes) -> str:
    """The .json beside a graph: what it is, from which weights, made by which releases. `wanted` is its request."""
    graph: Rewritten = wanted["graph"]
    inputs, outputs = REWRITTEN_PORTS[graph]
    tokens = {"tokens": wanted["tokens"]} if graph == "mask_decoder" else {}
    model = f"{source.model} video {graph.replace('_', ' ')}"
    return card(source, model, {"side": wanted["side"], **wanted["variant"], **tokens}, inputs, outputs, content)
