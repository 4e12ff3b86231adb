"""`localize --resume` and `--fresh`, and `export`, as words on a command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_tests.corpus import rank3_pad_9272
from harness.core.errors import EXIT_OK
from harness.core.run_folder import list_runs, read_run
from tests.cli.conftest import Cli
from tests.fuzz.documents import FILES, write


def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(rank3_pad_9272().to_bytes())
    return path


def test_resume_and_fresh_contradict_each_other(tmp_path: Path, cli: Cli) -> None:
    said = cli("localize", saved(tmp_path), "--resume", tmp_path, "--fresh")
    assert (said.code, said.sentence) == (2, "--resume and --fresh contradict each other. Give one of them.")


@pytest.mark.gpu
def test_a_localization_is_exported_whole_and_a_run_at_its_end_is_not_continued(tmp_path: Path, cli: Cli) -> None:
    assert cli("localize", saved(tmp_path), "--no-explain").code == 1
    (run,) = list_runs(tmp_path / "results")
    assert read_run(run)["result"]["probes"]["asked"] >= 3

    listed = cli("export", run, "--format", "fp32-ops")
    assert (listed.code, listed.out, listed.err) == (0, "tfl.PadOp\n", "")
    assert cli("export", run, "--format", "fp32-names").out == "pad_1\n"
    table = cli("export", run, "--format", "csv").out.splitlines()
    assert table[0].startswith("index,first,op,output,")
    assert len(table) == 4
    drawn = cli("export", run, "--format", "model-explorer", "--out", "errors.json")
    assert (drawn.code, drawn.out) == (0, "errors.json\n")
    assert set(json.loads((tmp_path / "errors.json").read_text("utf-8"))["results"]) == {"relu_0", "pad_1", "tanh_2"}

    nowhere = cli("export", run, "--format", "csv", "--out", tmp_path / "no" / "such" / "folder.csv")
    assert nowhere.code == 2
    assert "cannot be written (No such file or directory)" in nowhere.sentence
    again = cli("localize", saved(tmp_path), "--resume", run)
    assert again.code == 2
    assert again.sentence.startswith(f"Run {run} is at its end.")


@pytest.mark.parametrize(
    "word", ["[/oops]", "a\x1b]8;;http://x\x07b", "b\u202eexe", "x" * 1_000_000, "[red]x", "\ud800"]
)
def test_runs_from_elsewhere_are_listed_as_text(tmp_path: Path, cli: Cli, word: str) -> None:
    record = json.loads(FILES["run.json"]) | {"command": word, "status": word, "model": {"path": word}}
    record["result"] = {"status": word}
    write(tmp_path / "results/20261128T000000Z-model-host", FILES | {"run.json": json.dumps(record).encode()})
    said = cli("runs")
    assert (said.code, said.err) == (0, "")
    assert len(said.out) < 1000
    assert all(part.isprintable() for part in said.out.split("\n"))
    assert "20261128T000000Z-model-host" in said.out.replace("\n", "")


def test_a_folder_without_runs_is_named(cli: Cli, tmp_path: Path) -> None:
    said = cli("runs", "--out", tmp_path / "elsewhere")
    assert (said.code, said.out) == (EXIT_OK, f"No runs in {tmp_path / 'elsewhere'}; --out names another folder.\n")
    assert cli("runs", "--out", tmp_path / "elsewhere", "--json").json == {"schema": 1, "runs": []}
