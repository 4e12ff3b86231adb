"""`harness matrix --device`: exit codes, the table, the document, and words that do not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.across.support import device_names
from harness.core.errors import EXIT_MISUSE, EXIT_OK, EXIT_UNRESOLVED, UsageError
from tests.cli.conftest import Cli

ONE = ("matrix", "--device", "planted:none", "--ops", "MATRIX_DIAG")


def test_a_device_is_asked_and_the_page_and_the_document_are_written(cli: Cli, tmp_path: Path) -> None:
    said = cli(*ONE, "--out", tmp_path / "support")
    assert said.code == EXIT_OK
    assert "MATRIX_DIAG" in said.out and "1 pass" in said.out
    assert max(len(line) for line in said.out.splitlines() if "MATRIX" in line) <= 80
    assert (tmp_path / "support" / "support.html").exists()
    (path,) = (tmp_path / "support").glob("*.json")
    again = cli("matrix", "--kept", path, "--json", "--out", tmp_path / "again").json
    assert (again["asked"], [s["counts"]["pass"] for s in again["supports"]]) == (0, [1])


def test_cells_left_for_another_time_are_no_answer_yet(cli: Cli, tmp_path: Path) -> None:
    said = cli(*ONE, "--minutes", "0", "--out", tmp_path)
    assert said.code == EXIT_UNRESOLVED
    assert "1 cell left: the same command again goes on." in said.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("runs", "--device", "host"), "RUN (runs) does not go with --device."),
        (("--runtime", "2.1.3"), "--runtime goes with --device."),
        (("--ops", "ADD"), "--ops goes with --device."),
        (("--minutes", "1"), "--minutes goes with --device."),
        (("--device", "planted:none", "--ops", "NOP"), "there is no op 'NOP'"),
        (("--device", "planted:none", "--runtime", "2.1.3"), "--runtime goes with host or web"),
        (("--device", "pixel8a", "--runtime", "2.1.3"), "--runtime goes with host or web"),
        (("--kept", "kept.json", "--ops", "ADD"), "--ops chooses what a --device is asked"),
        (("--kept", "none.json"), "none.json cannot be read"),
    ],
)
def test_words_that_do_not_go_together_are_misuse(cli: Cli, words: tuple[str, ...], why: str) -> None:
    said = cli("matrix", *words)
    assert said.code == EXIT_MISUSE
    assert why in " ".join(said.err.split())


def test_the_installed_release_is_the_plain_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.lint.knowledge.target._installed", lambda: "2.3.0")
    assert device_names(["host"], ["2.1.3", "2.3.0"]) == ["host@2.1.3", "host"]
    assert device_names(["web", "host"], ["2.5.2"]) == ["web@2.5.2", "host@2.5.2"]
    assert device_names(["pixel8a"], []) == ["pixel8a"]
    with pytest.raises(UsageError):
        device_names(["host@2.1.3"], ["2.3.0"])
