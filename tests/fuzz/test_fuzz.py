"""Files that nobody vouches for, made by the hundred: whatever they hold, an answer or a sentence comes, and soon.

`make fuzz MINUTES=10` goes on with other seeds for as long as is asked, and keeps what it finds in `.hypothesis`. With
MODELS=FOLDER it breaks the models of that folder too, which somebody else's converters wrote.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.conftest import made_rich
from tests.fuzz import targets
from tests.fuzz.documents import BENCH_FILES, FILES, broken_folder, broken_journal, write
from tests.fuzz.journals import answered
from tests.fuzz.mutants import broken_bytes, broken_tree
from tests.quantized import QuantizedBuilder

DRAWN = bool(os.environ.get("FUZZ_DRAWN"))
# A shared machine may be slow; what explodes takes minutes.
SECONDS = 10.0
# Of another's model, so that many mutants of it can be tried.
MOST_BYTES = 300_000
LIMITS = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    derandomize=not DRAWN,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
bounded: Callable[..., Any] = LIMITS


def layers() -> Model:
    """Float layers with constants, a reduction and a reshape."""
    graph = GraphBuilder()
    x = graph.input("x", (2, 8))
    hidden = graph.fully_connected(x, np.ones((8, 8), np.float32), np.ones(8, np.float32))
    graph.output(graph.reshape(graph.softmax(graph.binary("ADD", hidden, x)), (4, 4)), "y")
    graph.output(graph.reduce("MEAN", hidden, 1), "mean")
    return graph.build()


def integers() -> Model:
    """Two layers of int8."""
    graph = QuantizedBuilder()
    x = graph.quantized_input("x", (2, 8), 0.05, 4)
    hidden = graph.layer(x, np.full((8, 8), 3), 0.005, (0.06, -8))
    graph.output(graph.sum_of(hidden, x, (0.08, 2)), "y")
    return graph.build()


def others() -> list[bytes]:
    """The models under the folder that the environment names, if it names one."""
    folder = os.environ.get("FUZZ_MODELS")
    found = sorted(Path(folder).rglob("*.tflite")) if folder else []
    return [path.read_bytes() for path in found if path.stat().st_size < MOST_BYTES]


SEEDS = (layers(), integers(), made_rich())
WRITTEN = (*(model.to_bytes() for model in SEEDS), *others())


@contextmanager
def soon() -> Iterator[Path]:
    """A folder for one question, which must not take long."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        yield Path(folder)
        took = time.monotonic() - started
        assert took < SECONDS, f"{took:.1f} s"


@bounded
@given(st.sampled_from(WRITTEN).flatmap(broken_bytes))
def test_a_file_with_broken_bytes_is_read_or_refused(data: bytes) -> None:
    with soon() as folder:
        (folder / "m.tflite").write_bytes(data)
        targets.read(folder / "m.tflite")


@bounded
@given(st.sampled_from(WRITTEN).flatmap(lambda data: broken_tree(Model.from_bytes(data))))
def test_a_well_formed_file_that_makes_no_sense_is_read_or_refused(data: bytes) -> None:
    with soon() as folder:
        (folder / "m.tflite").write_bytes(data)
        targets.read(folder / "m.tflite")


@bounded
@given(broken_folder())
def test_a_run_folder_that_was_edited_is_shown_or_refused(files: dict[str, bytes]) -> None:
    with soon() as folder:
        write(folder / "results/run", files)
        targets.show(folder / "results/run", folder / "site")
        outside = {str(path.relative_to(folder)).split("/")[0] for path in folder.rglob("*")}
        assert outside <= {"results", "site"}


@bounded
@given(broken_journal())
def test_a_journal_that_was_edited_answers_or_is_asked_for_again(lines: list[bytes]) -> None:
    with soon() as folder:
        (folder / "run" / "journal").mkdir(parents=True)
        assert answered(folder / "run", *lines) in (0, 1)


@pytest.mark.parametrize("model", SEEDS, ids=("layers", "integers", "rich"))
def test_the_models_that_are_broken_are_whole_to_begin_with(model: Model, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(model.to_bytes())
    assert targets.read(tmp_path / "m.tflite")


def test_so_is_the_run_folder(tmp_path: Path) -> None:
    write(tmp_path / "results/run", FILES)
    assert not targets.show(tmp_path / "results/run", tmp_path / "site")  # no benchmark to be compared with
    with pytest.raises(UsageError, match="Give --against a finished run of `harness bench`"):
        targets.compared(tmp_path / "results/run")


def test_and_the_benchmark(tmp_path: Path) -> None:
    write(tmp_path / "results/run", BENCH_FILES)
    targets.compared(tmp_path / "results/run")
    targets.framed(tmp_path / "results")
