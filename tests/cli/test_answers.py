"""What commands answer: one JSON document with the contract's fields, and an exit code that says how it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_tests.corpus import healthy_mlp, rank3_pad_9272
from harness.api import session
from harness.cli import app as command_line
from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE, EXIT_OK, EXIT_UNRESOLVED, EXIT_WRONG
from harness.core.run_folder import TensorStore, list_runs, read_run
from harness.graph.build import GraphBuilder
from harness.graph.edit import signature_def
from harness.graph.model import Model
from tests import models
from tests.cli.conftest import Cli
from tests.localize.planted import SHIFTED, Half, is_untouched

pytestmark = pytest.mark.gpu

OUTPUT = {"name", "cosine", "max_abs", "expected_max_abs", "nonfinite", "ok"}
RESIDENCY = {"delegated", "total", "partitions", "full"}
LOCALIZED = {
    "schema",
    "model",
    "device",
    "status",
    "certified",
    "device_compiles",
    "device_runs",
    "seconds",
    "outputs",
    "culprits",
}
CULPRIT = {
    "ops",
    "op",
    "output",
    "cause",
    "signature",
    "local_error",
    "expected_error",
    "ratio",
    "isolated",
    "reproducer",
    "remedies",
}


def saved(tmp_path: Path, model: Model) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(model.to_bytes())
    return path


def only_run(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    (path,) = list_runs(tmp_path / "results")
    return path, read_run(path)


class TestRuns:
    @pytest.mark.parametrize("command", ["compare", "localize"])
    def test_runs_that_were_asked_for_are_counted(self, cli: Cli, tmp_path: Path, command: str) -> None:
        said = cli(command, saved(tmp_path, healthy_mlp()), "--json", "--runs", 4)
        assert said.code == EXIT_OK
        assert [output["runs"] for output in said.json["outputs"]] == [{"wrong": 0, "of": 4}]

    def test_two_runs_that_agree_say_nothing_of_a_rate(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("compare", saved(tmp_path, healthy_mlp()), "--json")
        assert all("runs" not in output for output in said.json["outputs"])


class TestRun:
    def test_the_answer_and_the_outputs(self, cli: Cli, tmp_path: Path) -> None:
        model = saved(tmp_path, healthy_mlp())
        said = cli("run", model, "--json", "--seed", 3, "--warmup", 1, "--iterations", 4)
        assert said.code == EXIT_OK
        answer = said.json
        assert answer["schema"] == 1
        (output,) = answer["outputs"]
        assert {"name": "y", "dtype": "float32", "shape": [1, 32, 64], "nonfinite": 0}.items() <= output.items()
        assert set(answer["residency"]) == RESIDENCY
        assert answer["residency"]["full"] is True
        assert answer["runtime"] and answer["gpu"]
        assert answer["samples_ms"]["count"] == 4
        assert 0 < answer["samples_ms"]["min"] <= answer["samples_ms"]["median"] <= answer["samples_ms"]["max"]
        path, record = only_run(tmp_path)
        assert answer["run"] == str(path.relative_to(tmp_path))
        assert (record["status"], record["command"]) == ("done", "run")
        values = TensorStore(path / "tensors").get("output-y", "device")
        assert list(output["range"]) == [values.min(), values.max()]
        assert (path / "report.html").stat().st_size > 1000
        assert len((path / "samples.csv").read_text().splitlines()) == 5

    def test_the_same_seed_gives_the_same_inputs_as_a_file(self, cli: Cli, tmp_path: Path) -> None:
        model = saved(tmp_path, healthy_mlp())
        values = np.random.default_rng(5).standard_normal((1, 32, 64)).astype(np.float32)
        np.savez(tmp_path / "in.npz", x=values)
        drawn = cli("run", model, "--json", "--accelerator", "cpu", "--seed", 5).json["outputs"]
        given = cli("run", model, "--json", "--accelerator", "cpu", "--inputs", "in.npz").json["outputs"]
        assert drawn == given

    def test_a_signature_is_run_by_name(self, cli: Cli, tmp_path: Path) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4))
        tanh = graph.unary("TANH", x)
        graph.output(graph.unary("RELU", x), "relu")
        model = graph.build()
        model.root.signatureDefs.append(signature_def("other", [("in", x)], [("out", tanh)]))
        model.edited()
        said = cli("run", saved(tmp_path, model), "--json", "--signature", "other")
        assert said.code == EXIT_OK
        assert [output["name"] for output in said.json["outputs"]] == ["out"]

    def test_without_json_a_person_reads_it(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("run", saved(tmp_path, healthy_mlp()), "--accelerator", "cpu")
        assert said.code == EXIT_OK
        assert "1x32x64" in said.out
        assert said.sentences == []
        with pytest.raises(json.JSONDecodeError):
            json.loads(said.out)


class TestCompare:
    def test_a_right_model(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("compare", saved(tmp_path, healthy_mlp()), "--json")
        assert said.code == EXIT_OK
        answer = said.json
        assert (answer["schema"], answer["status"]) == (1, "pass")
        assert [output["ok"] for output in answer["outputs"]] == [True]
        assert set(answer["outputs"][0]) >= OUTPUT
        assert set(answer["residency"]) == RESIDENCY
        assert only_run(tmp_path)[1]["result"]["status"] == "pass"

    def test_a_wrong_model(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("compare", saved(tmp_path, rank3_pad_9272()), "--json")
        assert said.code == EXIT_WRONG
        assert (said.json["status"], said.json["outputs"][0]["ok"]) == ("fail", False)
        assert said.json["outputs"][0]["cosine"] < 0.5

    def test_infinity_is_a_word_in_json(self, cli: Cli, tmp_path: Path) -> None:
        graph = GraphBuilder()
        large = graph.binary("MUL", graph.input("x", (1, 64)), graph.constant([400.0]))
        graph.output(graph.unary("SQUARE", large), "y")
        said = cli("compare", saved(tmp_path, graph.build()), "--json")
        assert said.code == EXIT_WRONG
        assert said.json["outputs"][0]["nonfinite"] > 0
        assert said.json["outputs"][0]["ratio"] == "inf"


class TestAudit:
    def test_what_the_gpu_takes(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("audit", saved(tmp_path, healthy_mlp()), "--json")
        assert said.code == EXIT_OK
        assert said.json == {
            "schema": 1,
            "ops": {"FULLY_CONNECTED": 2, "DEQUANTIZE": 1, "GELU": 1, "ADD": 1},
            "total": 5,
            "max_rank": 3,
            "rank_over_4": 0,
            "unsupported": [],
            "weights_bytes": 64 * 128 * 2 + 64 * 128 * 4,
            "signatures": ["serving_default"],
            "asked": "host's GPU",
            "folded": "",
            "fallback": None,
            "asked_alone": [],
            "cut": "",
            "varying": "",
            "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 32, 64]}],
            "outputs": [{"name": "y", "dtype": "float32", "shape": [1, 32, 64]}],
            "lint": [],
            "differs": [],
        }
        assert not (tmp_path / "results").exists()

    @pytest.mark.parametrize("words", [[], ["--static"]])
    def test_what_it_refuses(self, cli: Cli, tmp_path: Path, words: list[str]) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("RELU", graph.input("x", (1, 2, 2, 2, 2))), "y")
        said = cli("audit", saved(tmp_path, graph.build()), "--json", *words)
        assert said.code == (EXIT_OK if words else EXIT_DEVICE)
        assert said.json["rank_over_4"] == 2
        assert all(line.startswith("RELU: ") for line in said.json["unsupported"])
        assert said.json["asked"] == ("" if words else "host's GPU")

    def test_a_model_whose_inputs_cannot_be_drawn_is_audited_all_the_same(self, cli: Cli, tmp_path: Path) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("RELU", graph.input("x", (-1, 4))), "y")
        model = saved(tmp_path, graph.build())
        said = cli("audit", model, "--json", "--static")
        assert said.code == EXIT_OK
        assert said.json["unsupported"] == [
            "RELU: tensor 'x' has no static shape",
            "RELU: tensor 'relu_0' has no static shape",
        ]
        said = cli("audit", model)
        assert (said.code, said.sentence) == (
            EXIT_MISUSE,
            "Input 'x' has shape [-1, 4] in the file, which stores no size to run at. Give one: --shape x=1,4.",
        )
        assert cli("audit", model, "--shape", "x=1,4").code == EXIT_OK


class TestLocalize:
    def test_a_culprit_is_named(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("localize", saved(tmp_path, rank3_pad_9272()), "--json")
        assert said.code == EXIT_WRONG
        answer = said.json
        assert set(answer) >= LOCALIZED
        assert (answer["schema"], answer["status"], answer["certified"]) == (1, "culprits", True)
        assert answer["device_compiles"] <= 3
        assert answer["model"]["ops"] == 3
        assert set(answer["device"]) == {"name", "kind", "runtime", "gpu"}
        assert set(answer["outputs"][0]) >= OUTPUT
        (culprit,) = answer["culprits"]
        assert set(culprit) >= CULPRIT
        assert (culprit["ops"], culprit["op"], culprit["cause"]) == ([1, 1], "PAD", "kernel")
        path, record = only_run(tmp_path)
        assert record["result"]["culprits"] == answer["culprits"]
        rows = (path / "ops.csv").read_text().splitlines()
        assert len(rows) == 1 + 3

    def test_a_healthy_model_passes_after_one_compile(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("localize", saved(tmp_path, healthy_mlp()), "--json")
        assert said.code == EXIT_OK
        assert (said.json["status"], said.json["culprits"]) == ("pass", [])
        assert (said.json["device_compiles"], said.json["device_runs"]) == (1, 2)

    def test_an_open_question_has_a_code_of_its_own(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        model = healthy_mlp()
        path = saved(tmp_path, model)
        device = Half(model, {model.graph().outputs[0].tensor: SHIFTED}, sees=is_untouched(model))
        monkeypatch.setattr(session, "open_device", lambda *_: device)
        monkeypatch.setattr(
            "sys.argv", ["harness", "localize", str(path), "--json", "--out", str(tmp_path / "results")]
        )
        with pytest.raises(SystemExit) as left:
            command_line.app()
        assert left.value.code == EXIT_UNRESOLVED
        answer = json.loads(capsys.readouterr().out)
        assert (answer["status"], answer["culprits"], answer["certified"]) == ("unresolved", [], False)
        assert only_run(tmp_path)[1]["status"] == "done"


class TestFailures:
    def test_a_failure_is_a_document_too(self, cli: Cli) -> None:
        said = cli("run", "missing.tflite", "--json")
        assert said.code == EXIT_MISUSE
        error = "missing.tflite does not exist. Give the path of a .tflite file."
        assert said.json == {"schema": 1, "status": "failed", "error": error}
        assert said.sentences == [error]

    def test_so_is_trouble_with_a_device(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("localize", saved(tmp_path, healthy_mlp()), "--json", "--device", "pixel8a")
        assert said.code == EXIT_DEVICE
        assert said.json["status"] == "failed"
        assert said.json["error"].startswith("No Pixel 8a (akita) is attached")
        assert said.json["trouble"] == "lost"

    def test_a_refusal_is_told_from_other_trouble(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("compare", saved(tmp_path, models.refused()), "--json", "--device", "planted:refusals")
        assert (said.code, said.json["trouble"]) == (EXIT_DEVICE, "refused")


class TestTheRest:
    def test_dump_keeps_both_sides_of_every_op(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("dump", saved(tmp_path, rank3_pad_9272()), "--json")
        assert said.code == EXIT_WRONG
        path, _ = only_run(tmp_path)
        names = {file.name for file in (path / "tensors").iterdir()}
        for label in ("0000-RELU", "0001-PAD", "output-y"):
            assert {f"{label}.device.safetensors", f"{label}.reference.safetensors"} <= names
        assert said.json["records"] == 3

    def test_doctor_lists_its_checks(self, cli: Cli) -> None:
        said = cli("doctor", "--json")
        assert said.code == EXIT_OK
        assert said.json["schema"] == 1
        checks = {check["name"]: check for check in said.json["checks"]}
        assert {"Python", "ai-edge-litert", "GPU", "adb"} <= set(checks)
        assert all(set(check) == {"name", "state", "detail", "mend"} for check in checks.values())
        assert all(check["state"] in ("ok", "optional") for check in checks.values())

    def test_runs_are_listed_and_reported_anew(self, cli: Cli, tmp_path: Path) -> None:
        cli("run", saved(tmp_path, healthy_mlp()), "--accelerator", "cpu")
        path, _ = only_run(tmp_path)
        (listed,) = cli("runs", "--json").json["runs"]
        assert (listed["command"], listed["status"]) == ("run", "done")
        (path / "report.html").unlink()
        assert cli("report", path).code == EXIT_OK
        assert (path / "report.html").exists()

    def test_devices_are_listed(self, cli: Cli) -> None:
        answer = cli("devices", "--json").json
        assert (answer["schema"], answer["host"]) == (1, True)
        assert "pixel8a" in answer["profiles"]

    def test_the_version_and_the_help(self, cli: Cli) -> None:
        assert cli("--version").out == "harness 0.1.0\n"
        assert "localize" in cli("--help").out


class TestOpenShapes:
    @pytest.fixture
    def model(self, tmp_path: Path) -> Path:
        graph = GraphBuilder()
        x = graph.input("x", (1, 4))
        y = graph.unary("RELU", x)
        graph.output(y, "y")
        root = graph.build().root
        for tensor in (x, y):
            root.subgraphs[0].tensors[tensor].shapeSignature = np.asarray([-1, 4], np.int32)
        return saved(tmp_path, Model(root))

    @pytest.mark.parametrize(("words", "shape"), [([], [1, 4]), (["--shape", "x=3,4"], [3, 4])])
    def test_the_model_runs_at_the_stored_shape_or_at_the_one_asked_for(
        self, cli: Cli, model: Path, words: list[str], shape: list[int]
    ) -> None:
        said = cli("run", model, "--json", *words)
        assert said.code == EXIT_OK
        assert said.json["outputs"][0]["shape"] == shape
        origin = "as asked" if words else "as the file stores it"
        assert f"input 'x' [-1, 4] is {shape}, {origin}" in said.err
        record = read_run(model.parent / said.json["run"])
        assert record["options"]["shapes"] == {"x": shape}
        assert record["assumed"] == f"input 'x' [-1, 4] is {shape}, {origin}"

    def test_localize_and_audit_take_it_too(self, cli: Cli, model: Path) -> None:
        said = cli("localize", model, "--shape", "x=2,4", "--json")
        assert said.code == EXIT_OK
        assert said.json["notes"] == ["Shapes that the file leaves open: input 'x' [-1, 4] is [2, 4], as asked."]
        assert cli("audit", model, "--shape", "x=2,4").code == EXIT_OK

    @pytest.mark.parametrize(
        ("word", "why"),
        [
            ("x", "--shape 'x' is no input with sizes. Write it as --shape NAME=1,224,224,3."),
            ("x=1,-4", "--shape 'x=1,-4' is no input with sizes. Write it as --shape NAME=1,224,224,3."),
            ("z=1,4", "--shape names 'z', which is no input. The inputs are: x."),
        ],
    )
    def test_a_shape_that_is_none_is_misuse(self, cli: Cli, model: Path, word: str, why: str) -> None:
        said = cli("compare", model, "--shape", word)
        assert (said.code, said.sentence) == (EXIT_MISUSE, why)
