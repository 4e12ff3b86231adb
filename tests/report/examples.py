"""One of each document of the package, as its commands and functions make it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from typer.testing import CliRunner

from harness.api.app import InstalledApp
from harness.api.bisect import bisect
from harness.api.bisect_runtime import RuntimeBisection
from harness.api.bisect_runtime import Tested as OneRelease  # no class of tests
from harness.cli.app import app
from harness.cli.screen import print_failure
from harness.core.errors import DeviceRefused
from harness.core.job import Residency
from harness.core.run_folder import list_runs, to_json
from harness.dashboard.support.document import Cell, FormRow, Support, write
from harness.graph.forms.form import Given, single
from harness.localize.explain import remedy_trials
from harness.remedies.on_cpu import Chain, Part
from harness.report.drawn.graph import write_graph
from harness.sam2.image_path.ablate import Ablated, Ablation
from harness.sam2.image_path.accuracy import Accuracy, SceneAccuracy
from harness.sam2.image_path.convert import model_card
from harness.sam2.shared.contract import CARD
from harness.sam2.shared.source import Source
from harness.sam2.video.contract import Constants, Sizes
from harness.sam2.video.conversion.convert import graph_card
from harness.sam2.video.drift.measure import Drift, GraphDrift, TrackedMask
from harness.sam2.video.drift.origin import Traced
from harness.sam2.video.track import TrackResult
from harness.sam2.video.validate import FrameFigures, StageFigures, Validation
from tests import models
from tests.farm.record import small_matrix
from tests.sam2.test_commands import RANDOM, clicked, measured


def told(*words: object) -> dict[str, Any]:
    """What the command prints with --json."""
    document: dict[str, Any] = json.loads(CliRunner().invoke(app, [*map(str, words), "--json"]).stdout)
    return document


class Examples:
    """Documents as the package makes them, each made once."""

    def __init__(self, folder: Path) -> None:
        self.results, self.folder = folder / "results", folder
        self.right, self.wrong, self.none = (folder / f"{name}.tflite" for name in ("right", "wrong", "none"))
        self.right.write_bytes(models.right().to_bytes())
        self.wrong.write_bytes(models.wrong().to_bytes())
        self.none.write_bytes(b"none")
        self.of = cache(self._of)

    def _of(self, name: str) -> list[dict[str, Any]]:
        make: Callable[[], list[Any]] = getattr(self, "_" + name.replace("-", "_"))
        made: list[dict[str, Any]] = json.loads(json.dumps(to_json(make())))
        return made

    def _told(self, command: str, *words: object) -> dict[str, Any]:
        return told(*command.split(), *words, "--out", self.results)

    def _latest(self) -> Path:
        """The newest of the host that found an op: runs of one second stand in the order of their names."""
        self.of("localize")
        return next(run for run in list_runs(self.results) if "-wrong-host" in run.name)

    def _run(self) -> list[Any]:
        return [self._told("run --accelerator cpu", self.right)]

    def _compare(self) -> list[Any]:
        two = ("--device", "host", "--device", "planted:none")
        return [
            self._told("compare", self.wrong),
            self._told("compare", self.right, self.none),
            self._told("compare", self.wrong, *two),
        ]

    def _dump(self) -> list[Any]:
        return [self._told("dump", self.right)]

    def _localize(self) -> list[Any]:
        two = ("--device", "host", "--device", "planted:none")
        return [self._told("localize", self.wrong, "--no-explain", *two), self._told("localize", self.wrong)]

    def _bench(self) -> list[Any]:
        words = "bench --accelerator cpu --replications 1"
        plain, long = "--samples 20 --seconds 0", "--sustained 0.02"
        return [self._told(f"{words} {which}", self.right) for which in (plain, long)]

    def _audit(self) -> list[Any]:
        return [told("audit", self.right, "--static")]

    def _lint(self) -> list[Any]:
        refused, out = self.folder / "refused.tflite", self.folder / "rewritten.tflite"
        refused.write_bytes(models.refused().to_bytes())
        words = ("lint", "--fix", "--results", self.results)
        fixed = told(*words, self.wrong, "--device", "planted:none", "--out", out)
        return [told("lint", self.wrong, self.none), fixed, told(*words, refused, "--for", "mali")]

    def _doctor(self) -> list[Any]:
        return [self._told("doctor")]

    def _devices(self) -> list[Any]:
        return [told("devices")]

    def _app_install(self) -> list[Any]:
        """As the stand-in's test has it from the command."""
        return [InstalledApp("pixel8a", "STANDIN5554", "0.1.0", was).to_json() for was in (None, "0.1.0")]

    def _runs(self) -> list[Any]:
        self._latest()
        return [self._told("runs")]

    def _report(self) -> list[Any]:
        return [told("report", self._latest())]

    def _export(self) -> list[Any]:
        latest, words = self._latest(), ("--format", "csv")
        return [told("export", latest, *words), told("export", latest, *words, "--out", self.folder / "ops.csv")]

    def _farm_certificates(self) -> list[Any]:
        return [told("farm", "certificates", self.folder / "trust", "--node", "lab1")]

    def _farm_scheduler(self) -> list[Any]:
        return [{"schema": 1, "address": "tls://lab1:8786", "dashboard": shown} for shown in (None, "http://x/status")]

    def _farm_worker(self) -> list[Any]:
        names = {"host": "lab1", "scheduler": "tls://lab1:8786", "address": "10.0.0.1", "store": "farm"}
        return [{"schema": 1} | names]

    def _farm_run(self) -> list[Any]:
        return [small_matrix(self.folder)]

    def _farm_status(self) -> list[Any]:
        from harness.farm.node import FarmWorker
        from harness.farm.status import status_document

        phone = {
            "name": "S1",
            "serial": "S1",
            "state": "out",
            "reason": "two failures",
            "times_out": 2,
            "probe_in": 60.0,
            "job": "",
            "doing": "",
            "offers": ["serial:S1"],
        }
        keeper = {
            "host": "lab1",
            "trouble": "",
            "devices": [phone, phone | {"state": "here", "reason": "", "probe_in": None}],
        }
        queue = {"matrix": "m.toml", "waiting": 1, "running": 1, "done": 0}
        workers = [FarmWorker("tls://10.0.0.1:1", frozenset({"keeper:lab1"}), keeper)]
        return [status_document("tls://lab1:8786", None, workers, {"a": queue})]

    def _dashboard(self) -> list[Any]:
        self.of("run")
        told = self._told("dashboard")
        return [told, told | {"address": "http://127.0.0.1:40001/token/dashboard/index.html"}]

    def _matrix(self) -> list[Any]:
        self.of("compare"), self.of("bench")
        one = ("--device", "planted:none", "--ops", "MATRIX_DIAG", "--out", self.folder / "support")
        both = told("matrix", *one, "--kept", self.folder / "before.json") if self._support() else {}
        return [told("matrix", "--runs-in", self.results), both]

    def _support(self) -> list[Any]:
        """One that has all that seldom occurs."""
        cells = (
            Cell("alone", "wrong", "cosine 0.1", 300.0, unsteady=True, known="rank-3-pad"),
            Cell("read", "crash", "the worker ended", float("inf"), known=""),
        )
        row = FormRow("matrix_diag-a6c60fe1", "MATRIX_DIAG", "[3,6]", "op", "float32", 2, "0" * 8, cells)
        form = single("MATRIX_DIAG", [Given((3, 6))], (3, 6, 6), "MatrixDiag")
        device = {"name": "host", "kind": "host", "runtime": "2.1.3", "gpu": "llvmpipe"}
        made = Support(device, "2026-11-30", "0.1.0", "default", 1.5, (replace(row, id=form.id),), {"WHILE": "why"})
        write(made, self.folder / "before.json")
        return [json.loads((self.folder / "before.json").read_text())]

    def _schema(self) -> list[Any]:
        return [told("schema"), told("schema", "chain")]

    def _failure(self) -> list[Any]:
        with redirect_stdout(io.StringIO()) as refused:
            print_failure("pixel8a rejected the model.", ["--json"], DeviceRefused.trouble)
        return [told("run", "--nonsense"), json.loads(refused.getvalue())]

    def _bisect_runtime(self) -> list[Any]:
        tested = (OneRelease("2.1.3", "right", folder=Path("r")), OneRelease("2.1.4", "fails", "refused"))
        states = {each.release: each.state for each in tested}
        model = {"path": "m.tflite", "sha256": "0" * 64, "ops": 1}
        found = RuntimeBisection(model, tested, bisect(list(states), states.__getitem__))
        return [found.to_json() | {"run": "r"}]

    def _run_record(self) -> list[Any]:
        self.of("localize"), self.of("bench"), self.of("compare")
        return [json.loads((run / "run.json").read_text()) for run in list_runs(self.results)]

    def _journal_line(self) -> list[Any]:
        self.of("localize")
        log = min(self.results.glob("*/journal/log"))
        lines = [json.loads(line.partition(b" ")[2]) for line in log.read_bytes().splitlines()]
        return list({line["entry"]: line for line in lines}.values())

    def _chain(self) -> list[Any]:
        remedy_trials._write_chain(self.folder, Chain((Part("gpu", models.right()),), {"x": "t0"}, {"y": "t1"}))
        return [json.loads((self.folder / "chain.json").read_text())]

    def _graph(self) -> list[Any]:
        write_graph(self.folder, models.wrong().graph())
        return [json.loads((self.folder / "graph.json").read_text())]

    def _video_constants(self) -> list[Any]:
        Constants(Sizes(), np.zeros((2, 64), np.float32), RANDOM, True).save(self.folder)
        return [json.loads((self.folder / "constants.json").read_text())]

    def _model_card(self) -> list[Any]:
        source, variant = Source(None, 0, RANDOM, "0"), asdict(CARD)
        decoder = {"kind": "decoder", "variant": variant, "tokens": 2, "weights": "float16"}
        part = {"part": "whole", "layernorm": "safe", "reductions": "whole"}
        encoder = {"kind": "encoder", **part, "weights": "float32"}
        graph = {"graph": "mask_decoder", "side": None, "variant": variant, "tokens": 3}
        made = [model_card(source, decoder, b""), model_card(source, encoder, b""), graph_card(source, graph, b"")]
        return [json.loads(card) for card in made]

    def _sam2_convert(self) -> list[Any]:
        return [{"schema": 1, "model": "decoder.tflite", "inputs": "inputs.npz", "provenance": RANDOM}]

    def _sam2_export_video(self) -> list[Any]:
        return [{"schema": 1, "graphs": ["a.onnx"], "constants": "constants.json", "provenance": RANDOM}]

    def _sam2_click(self) -> list[Any]:
        return [clicked(1.0, -1.0).to_json()]

    def _sam2_serve(self) -> list[Any]:
        return [{"schema": 1, "address": "http://127.0.0.1:8123/token/", "random_weights": False}]

    def _sam2_fidelity(self) -> list[Any]:
        return [measured(0.9997).to_json()]

    def _scene(self) -> SceneAccuracy:
        return SceneAccuracy("portrait", 0.99, 0.98, 1.0, 0.5, 0.0, 0, True)

    def _sam2_accuracy(self) -> list[Any]:
        return [Accuracy(CARD, "host", "llvmpipe", "2.3.0", RANDOM, True, (self._scene(),)).to_json()]

    def _sam2_ablate(self) -> list[Any]:
        whole = Residency(True, 26, 26, 1)
        row = Ablated(CARD, 26, self._scene(), whole, "pass", True, (), float("nan"), "", Path("r"), 5.0)
        device = {"name": "host", "kind": "host", "runtime": "2.3.0", "gpu": "llvmpipe"}
        return [Ablation((row,), "portrait", device, RANDOM, True).to_json()]

    def _sam2_validate_video(self) -> list[Any]:
        frame, stage = FrameFigures(0, 1, 1.0, 0.5, 3.0, 3.0), StageFigures("mask_decoder", "iou", 1e-6, 1.0)
        return [Validation(RANDOM, True, 256, "marked", (frame,), (stage,)).to_json()]

    def _sam2_track(self) -> list[Any]:
        seen = {"iou_score": 0.9, "object_score": 3.0, "visible": True, "area": 0.5}
        return [TrackResult(Path(), RANDOM, True, ({"frame": 0, "objects": {"1": seen}},)).to_json()]

    def _sam2_drift(self) -> list[Any]:
        drifted = GraphDrift("memory_encoder", (TrackedMask(3, 1, 0.5, 400),), True)
        refused = GraphDrift("mask_decoder", failure="It was refused.")
        return [Drift(RANDOM, True, 256, "host", "llvmpipe", True, (drifted, refused)).to_json() | Traced().to_json()]
