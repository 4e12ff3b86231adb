"""`harness matrix`: the table in a narrow terminal, the page's place, and what it cannot do."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from harness.cli import screen
from harness.cli.across.matrix import show_matrix
from harness.cli.screen import Screen
from harness.core.errors import EXIT_MISUSE, EXIT_OK
from harness.dashboard.matrix.collect import collect
from harness.dashboard.matrix.matrix import build_matrix
from tests.cli.conftest import Cli
from tests.dashboard.matrix.conftest import write

WRONG, RIGHT = [("fine", 1.0), ("culprit", 335.0)], [("fine", 1.0), ("fine", 1.0)]


def test_the_table_fits_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 0, "a-model-with-a-name-of-some-length.tflite", "host@2.1.5", ok=False, ops=WRONG)
    write(tmp_path, 1, "a-model-with-a-name-of-some-length.tflite", "192.168.100.100:5555@farmhost.example:5037")
    write(tmp_path, 2, "small.tflite", "host", status="failed", error="It was lost. " * 30, exit_code=3)
    file = io.StringIO()
    monkeypatch.setattr(screen, "out", Screen(file=file, width=80, soft_wrap=True, highlight=False, emoji=False))
    show_matrix(build_matrix(collect([], tmp_path)))
    text = file.getvalue()
    table = text[: text.index("2 models on")].splitlines()
    assert max(map(len, table)) <= 80
    assert "◆ fail" in text and "335×" in text and "× device trouble" in text


def test_the_page_lies_beside_the_runs_and_its_document_says_where(cli: Cli, tmp_path: Path) -> None:
    folder = write(tmp_path / "results", 0)
    (write(tmp_path / "results", 1) / "run.json").write_text("{")
    said = cli("matrix", "--json")
    assert said.code == EXIT_OK
    assert said.json["page"] == "results/matrix.html" and (tmp_path / "results" / "matrix.html").is_file()
    assert len(said.json["skipped"]) == 1 and "run.json cannot be read" in said.json["skipped"][0]
    assert [cell["state"] for row in said.json["models"] for cell in row["cells"]] == ["pass"]
    assert cli("matrix", folder, "--out", "page.html").out.splitlines()[-1] == "page.html"


def test_nothing_to_show_is_a_sentence(cli: Cli, tmp_path: Path) -> None:
    said = cli("matrix")
    assert (said.code, "results is no folder" in said.sentence) == (EXIT_MISUSE, True)
    (tmp_path / "results").mkdir()
    assert "There is no run of a model in results." in cli("matrix").sentence
    assert "is no run folder" in cli("matrix", "nonsense").sentence
