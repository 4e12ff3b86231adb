"""Every bad input ends in one sentence on stderr, an empty stdout and the right exit code; never in a traceback."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.errors import EXIT_DEVICE, EXIT_MISUSE
from harness.core.run_folder import list_runs, read_run
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import f32
from tests.cli.conftest import COMMAND, Cli, Said, environment
from tests.mounts import in_mount


@pytest.fixture(scope="module")
def small() -> Model:
    graph = GraphBuilder()
    shifted = graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0]))
    graph.output(graph.binary("MUL", shifted, graph.input("scale", (4,))), "y")
    return graph.build()


@pytest.fixture
def model(tmp_path: Path, small: Model) -> Path:
    path = tmp_path / "small.tflite"
    path.write_bytes(small.to_bytes())
    return path


def random_bytes(small: Model) -> bytes:
    return np.random.default_rng(0).bytes(10_000)


class TestModels:
    @pytest.mark.parametrize(
        ("command", "content", "why"),
        [
            ("run", lambda m: None, "bad.tflite does not exist."),
            ("compare", lambda m: b"", "bad.tflite is empty."),
            ("localize", lambda m: m.to_bytes()[:200], "bad.tflite is not a readable .tflite: offset "),
            ("dump", lambda m: m.to_bytes()[:-100], "bad.tflite is not a readable .tflite: "),
            ("audit", random_bytes, "bad.tflite is not a readable .tflite: no TFL3 identifier"),
            (
                "localize",
                lambda m: b"\xff\xff\xff\x7f" + m.to_bytes()[4:],
                "offset 2147483647 (+4 bytes) points outside",
            ),
        ],
        ids=["missing", "empty", "truncated", "cut short", "random", "outside"],
    )
    def test_a_file_that_is_no_model(
        self, cli: Cli, tmp_path: Path, small: Model, command: str, content: Callable[[Model], Any], why: str
    ) -> None:
        data = content(small)
        if data is not None:
            (tmp_path / "bad.tflite").write_bytes(data)
        said = cli(command, "bad.tflite")
        assert said.code == EXIT_MISUSE
        assert why in said.sentence
        assert not (tmp_path / "results").exists()

    def test_a_folder_is_no_model(self, cli: Cli, tmp_path: Path) -> None:
        said = cli("compare", ".")
        assert (said.code, said.sentence) == (EXIT_MISUSE, ". is a folder. Give the path of a .tflite file.")

    def test_a_signature_that_is_not_there(self, cli: Cli, model: Path) -> None:
        said = cli("run", model, "--signature", "training")
        assert said.code == EXIT_MISUSE
        assert said.sentence == "The model has no signature 'training'. It has: serving_default."

    def test_a_model_without_outputs(self, cli: Cli, tmp_path: Path) -> None:
        graph = GraphBuilder()
        graph.unary("RELU", graph.input("x", (1, 4)))
        (tmp_path / "m.tflite").write_bytes(graph.build().to_bytes())
        said = cli("run", "m.tflite")
        assert (said.code, said.sentences[-1][:25]) == (EXIT_MISUSE, "The model has no outputs.")

    def test_an_output_without_elements_cannot_be_compared(self, cli: Cli, tmp_path: Path) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("RELU", graph.input("x", (0, 4))), "y")
        (tmp_path / "m.tflite").write_bytes(graph.build().to_bytes())
        said = cli("compare", "m.tflite", "--accelerator", "cpu")
        assert said.code == EXIT_MISUSE
        assert said.sentence == "Output 'y' has no elements. A comparison of nothing says nothing."

    @pytest.mark.parametrize("command", ["run", "localize"])
    def test_an_unresolved_custom_op_is_device_trouble_and_named(self, cli: Cli, tmp_path: Path, command: str) -> None:
        graph = GraphBuilder()
        graph.output(graph.op("CUSTOM", [graph.input("x", (1, 4))], (1, 4), custom="MyOwnOp"), "y")
        (tmp_path / "m.tflite").write_bytes(graph.build().to_bytes())
        said = cli(command, "m.tflite", "--accelerator", "cpu")
        assert said.code == EXIT_DEVICE
        assert "the runtime has no custom op 'MyOwnOp'" in said.sentence
        assert "Replace that op by builtin ones" in said.sentence
        (run,) = list_runs(tmp_path / "results")
        assert read_run(run)["status"] == "failed"
        assert "MyOwnOp" in read_run(run)["error"]


class TestInputs:
    @pytest.mark.parametrize(
        ("arrays", "sentence"),
        [
            ({"x": np.ones((1, 4), np.float32)}, "The inputs lack 'scale'. The model takes: x, scale."),
            (
                {"x": np.ones((1, 4), np.float32), "scale": f32([1] * 4), "z": f32(0)},
                "The inputs hold the unknown name 'z'. The model takes: x, scale.",
            ),
            (
                {"x": np.ones((4,), np.float32), "scale": f32([1] * 4)},
                "Input 'x' has shape [4], the model takes [1, 4].",
            ),
            ({"x": np.ones((1, 4)), "scale": f32([1] * 4)}, "Input 'x' has type float64, the model takes float32."),
            (
                {"x": f32([[1, np.nan, 2, np.inf]]), "scale": f32([1] * 4)},
                "Input 'x' holds 2 NaN or infinite values.",
            ),
            ({"x": np.asarray([[{}]] * 4, object), "scale": f32([1] * 4)}, "holds pickled Python objects"),
        ],
        ids=["lacking", "unknown", "shape", "type", "nan", "pickled"],
    )
    def test_arrays_that_do_not_fit(
        self, cli: Cli, tmp_path: Path, model: Path, arrays: dict[str, Any], sentence: str
    ) -> None:
        np.savez(tmp_path / "in.npz", allow_pickle=True, **arrays)
        said = cli("run", model, "--inputs", "in.npz")
        assert said.code == EXIT_MISUSE
        assert sentence in said.sentence

    @pytest.mark.parametrize("content", [None, b"", pickle.dumps([1]), b"PK\x03\x04 and so on"])
    def test_a_file_that_is_no_npz(self, cli: Cli, tmp_path: Path, model: Path, content: bytes | None) -> None:
        if content is not None:
            (tmp_path / "in.npz").write_bytes(content)
        said = cli("compare", model, "--inputs", "in.npz")
        assert said.code == EXIT_MISUSE
        assert said.sentence.startswith(
            "The inputs in.npz do not exist." if content is None else "in.npz is not an .npz."
        )

    def test_inputs_too_large_to_draw(self, cli: Cli, tmp_path: Path) -> None:
        graph = GraphBuilder()
        graph.output(graph.unary("RELU", graph.input("x", (1 << 15, 1 << 15, 64))), "y")
        (tmp_path / "m.tflite").write_bytes(graph.build().to_bytes())
        said = cli("run", "m.tflite")
        assert said.code == EXIT_MISUSE
        assert said.sentence.startswith("Input 'x' has 274.9 GB, over the 2.1 GB of one tensor.")


class TestWords:
    @pytest.mark.parametrize(
        "words",
        [
            ["--accelerator", "tpu"],
            ["--accelerator", "reference"],
            ["--precision", "fp8"],
            ["--timeout", "0"],
            ["--timeout", "soon"],
            ["--seed", "-1"],
            ["--iterations", "0"],
            ["--warmup", "-1"],
            ["--no-such-option"],
        ],
    )
    def test_a_word_that_no_option_takes(self, cli: Cli, model: Path, words: list[str]) -> None:
        said = cli("run", model, *words)
        assert said.code == EXIT_MISUSE
        assert said.out == ""
        assert "Traceback" not in said.err
        assert words[0] in said.err

    @pytest.mark.parametrize("words", [["conquer"], ["run"], ["run", "a", "b"]])
    def test_a_command_that_there_is_not(self, cli: Cli, words: list[str]) -> None:
        said = cli(*words)
        assert (said.code, said.out) == (EXIT_MISUSE, "")

    def test_half_precision_on_the_cpu_is_refused_rather_than_ignored(self, cli: Cli, model: Path) -> None:
        said = cli("run", model, "--accelerator", "cpu", "--precision", "fp16")
        assert said.code == EXIT_DEVICE
        assert "the CPU computes in single precision, not fp16" in said.sentence


class TestDevices:
    def test_a_name_that_nothing_has(self, cli: Cli, model: Path, tmp_path: Path) -> None:
        said = cli("run", model, "--device", "pixel99")
        assert said.code == EXIT_MISUSE
        assert said.sentence.startswith("There is no device 'pixel99': adb sees ")
        assert "pixel8a" in said.sentence
        assert not (tmp_path / "results").exists()

    def test_a_release_that_is_none(self, cli: Cli, model: Path) -> None:
        said = cli("run", model, "--device", "host@latest")
        assert said.code == EXIT_MISUSE
        assert said.sentence == "'latest' is not a release of ai-edge-litert. Write it as host@2.1.5 or host@nightly."

    @pytest.mark.parametrize("command", ["run", "audit"])
    def test_a_phone_that_is_not_attached(self, cli: Cli, model: Path, tmp_path: Path, command: str) -> None:
        said = cli(command, model, "--device", "pixel8a")
        assert said.code == EXIT_DEVICE
        assert said.sentence.startswith("No Pixel 8a (akita) is attached: adb sees ")
        assert not (tmp_path / "results").exists()

    def test_an_adb_server_that_does_not_listen(self, cli: Cli, model: Path) -> None:
        said = cli("run", model, "--device", "pixel8a@127.0.0.1:1")
        assert said.code == EXIT_DEVICE
        assert said.sentence.startswith("The adb server at 127.0.0.1:1 cannot be asked (")

    def test_a_time_too_short_is_device_trouble(self, cli: Cli, model: Path, tmp_path: Path) -> None:
        said = cli("run", model, "--accelerator", "cpu", "--iterations", 1_000_000, "--timeout", 0.5)
        assert said.code == EXIT_DEVICE
        assert said.sentence.startswith("host gave no answer within 0.5 s while running the model")
        (run,) = list_runs(tmp_path / "results")
        assert read_run(run)["status"] == "failed"


class TestFolders:
    def test_a_file_where_the_folder_should_be(self, cli: Cli, model: Path) -> None:
        said = cli("run", model, "--accelerator", "cpu", "--out", model)
        assert said.code == EXIT_MISUSE
        assert said.sentence.startswith(f"{model} cannot be written (")

    def test_a_read_only_folder(self, model: Path, tmp_path: Path) -> None:
        said = self.mounted(tmp_path, "ro", "run", model)
        assert said.code == EXIT_MISUSE
        assert said.sentence.startswith(f"{tmp_path}/out cannot be written (Read-only file system).")

    @pytest.mark.parametrize("command", ["run", "compare", "localize", "dump"])
    def test_a_full_disk_is_told_and_what_was_written_is_kept(self, tmp_path: Path, command: str) -> None:
        graph = GraphBuilder()
        x = graph.input("x", (1, 256, 256))
        for _ in range(4):
            x = graph.unary("TANH", x)
        graph.output(x, "y")
        (tmp_path / "wide.tflite").write_bytes(graph.build().to_bytes())
        size = "128k" if command == "run" else "400k"  # room for a value of 256 kB at most, and for the record
        said = self.mounted(tmp_path, f"size={size}", command, tmp_path / "wide.tflite")
        assert said.code == EXIT_MISUSE
        assert said.sentence.startswith(f"The disk that holds {tmp_path}/out/")
        assert "is full; what was written before is kept." in said.sentence
        (run,) = list_runs(tmp_path / "out.kept")
        record = read_run(run)
        assert record["status"] == "failed"
        assert "is full" in record["error"]
        assert record["model"]["ops"] == 4
        assert not list(run.rglob("*.part"))

    @staticmethod
    def mounted(tmp_path: Path, options: str, command: str, model: Path) -> Said:
        out = tmp_path / "out"
        out.mkdir()
        words = [*COMMAND, command, str(model), "--accelerator", "cpu", "--out", str(out)]
        done = in_mount(out, options, words)
        return Said(done.returncode, done.stdout, done.stderr)


def test_a_run_folder_that_is_none(cli: Cli, tmp_path: Path) -> None:
    said = cli("report", "nowhere")
    assert said.code == EXIT_MISUSE
    assert said.sentence == (
        "nowhere is no run folder, and results has no run of that name. "
        "`harness runs` lists them; --runs-in names another folder."
    )
    (tmp_path / "run.json").write_text("{")
    assert cli("report", tmp_path).sentence.startswith(f"{tmp_path}/run.json cannot be read (")


def test_memory_that_runs_out_is_one_sentence_all_the_same() -> None:
    said = "Unable to allocate 512. MiB for an array with shape (134217728,) and data type float32"
    code = f"""if True:
        from harness.cli import app as cli
        def app(**_):
            raise MemoryError({said!r})
        cli.app = app
        cli.main()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    step = "Free memory, or export the model for smaller shapes."
    assert " ".join(done.stderr.split()) == f"This machine's memory does not suffice ({said}). {step}"
