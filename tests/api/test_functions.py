"""`harness.compare` and the others, as a script has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.api import functions
from harness.core.errors import UsageError
from tests import models
from tests.cli.conftest import environment


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(models.right().to_bytes())
    return path


def python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.gpu
@pytest.mark.parametrize(
    "code",
    [
        "import harness\nprint(harness.localize('model.tflite').status, harness.localize('model.tflite').status)",
        "import harness\nprint(harness.compare('model.tflite').ok and 'pass', harness.localize('model.tflite').status)",
        "from harness import localize\nprint(localize('model.tflite').status, 'pass')",
        "import harness.localize.find.localizer\nprint(harness.localize('model.tflite').status, 'pass')",
    ],
    ids=["twice", "after compare", "from", "after a module of the package"],
)
def test_localize_is_a_function_whatever_was_imported(code: str, model: Path) -> None:
    assert python(code, model.parent) == "pass pass\n"


@pytest.mark.gpu
def test_answers_are_short_and_say_where_the_report_is(model: Path, tmp_path: Path) -> None:
    found = functions.compare(model, out=tmp_path / "runs")
    assert found.ok and found.folder is not None and (found.folder / "report.html").is_file()
    assert repr(found).startswith("<ModelComparison: PASS: ") and str(found.folder) in repr(found)
    assert len(repr(found)) < 400
    assert "<table>" in found._repr_html_()
    answer = functions.localize(model, out=tmp_path / "runs")
    assert repr(answer).startswith("<Localization: pass (report: ") and "<table>" in answer._repr_html_()
    audit = functions.audit(model, device="host")
    assert repr(audit) == "<Audit: 1 ops, nothing refused by host's GPU>" and "RELU" in audit._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"acelerator": "cpu"}, "'acelerator'"),
        ({"accelerator": "tpu"}, "accelerator='tpu'"),
        ({"precision": "half"}, "precision='half'"),
        ({"timeout": 0}, "timeout=0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"min_cosine": 2.0}, "cosine"),
    ],
)
def test_an_argument_that_is_none_is_named(arguments: dict[str, Any], named: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=named):
        functions.compare(model, out=tmp_path, **arguments)


def test_a_model_in_memory_has_no_path_to_be_audited(model: Path) -> None:
    from harness.graph.model import Model

    with pytest.raises(UsageError, match="takes a path"):
        functions.audit(Model.load(model))
