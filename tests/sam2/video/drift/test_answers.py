"""Answers kept on disk: found again by all that they follow from, and asked again where they cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from harness.core.errors import StorageError, UsageError
from harness.core.job import Residency
from harness.graph.model import Model
from harness.sam2.shared.in_parts import Ran
from harness.sam2.shared.unit import Unit
from harness.sam2.video.contract import FloatArray, Rewritten
from harness.sam2.video.drift.answers import KeptAnswers, forget
from tests.chains import chain
from tests.localize.planted import InProcess

MODEL = chain("ABS")
GIVEN = {"feats2": np.arange(4, dtype=np.float32), "mask": np.zeros(4, np.float32)}


@dataclass
class Asked:
    """Counts what it is asked."""

    times: int = 0
    count: int = 1
    gpu: str = "a GPU"
    units: list[Unit] = field(default_factory=list)

    def run(self, graph: Rewritten, model: Model, inputs: dict[str, FloatArray], unit: Unit) -> Ran:
        self.times += 1
        values = np.full(3, self.times, np.float32)
        residency = Residency(True, 3, 3, 1, refused=("a", "b"), on_cpu=None)
        return Ran({"memory": values}, residency, self.gpu if unit == "gpu" else "", 2)

    def parts(self, model: Model, unit: Unit) -> int:
        return self.count


def test_the_same_question_is_asked_once_also_by_a_later_run(tmp_path: Path) -> None:
    asked = Asked()
    first = KeptAnswers(asked, InProcess(), tmp_path).run("memory_encoder", MODEL, GIVEN, "gpu")
    again = KeptAnswers(asked, InProcess(), tmp_path)
    second = again.run("memory_encoder", MODEL, dict(reversed(GIVEN.items())), "gpu")
    assert asked.times == 1
    assert np.array_equal(first.outputs["memory"], second.outputs["memory"])
    assert second.residency == first.residency
    assert (second.adapter, second.parts) == (first.adapter, 2)


def test_another_question_is_asked(tmp_path: Path) -> None:
    asked = Asked()
    kept = KeptAnswers(asked, InProcess(), tmp_path)
    kept.run("memory_encoder", MODEL, GIVEN, "gpu")
    kept.run("memory_encoder", MODEL, GIVEN, "cpu")
    kept.run("memory_encoder", chain("NEG"), GIVEN, "gpu")
    kept.run("memory_encoder", MODEL, GIVEN | {"mask": np.ones(4, np.float32)}, "gpu")
    kept.run("memory_encoder", MODEL, GIVEN | {"mask": np.zeros((2, 2), np.float32)}, "gpu")
    asked.count = 2
    kept.run("memory_encoder", MODEL, GIVEN, "gpu")
    assert asked.times == 6


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_an_answer_that_cannot_be_read_is_asked_for_again(tmp_path: Path, damage: bytes | None) -> None:
    asked = Asked()
    kept = KeptAnswers(asked, InProcess(), tmp_path)
    kept.run("memory_encoder", MODEL, GIVEN, "gpu")
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert kept.run("memory_encoder", MODEL, GIVEN, "gpu").outputs["memory"][0] == 2
    assert kept.run("memory_encoder", MODEL, GIVEN, "gpu").outputs["memory"][0] == 2
    assert asked.times == 2


def test_an_answer_that_cannot_be_kept_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "answers").write_text("a file")
    with pytest.raises(StorageError, match="answers"):
        KeptAnswers(Asked(), InProcess(), tmp_path / "answers").run("memory_encoder", MODEL, GIVEN, "gpu")


@pytest.mark.parametrize("other", [True, False])
def test_answers_are_forgotten_and_nothing_else_is(tmp_path: Path, other: bool) -> None:
    folder = tmp_path / "answers"
    KeptAnswers(Asked(), InProcess(), folder).run("memory_encoder", MODEL, GIVEN, "gpu")
    if other:
        (folder / "mine.npz").write_text("not an answer")
    forget(folder)
    assert [path.name for path in tmp_path.rglob("*")] == (["answers", "mine.npz"] if other else [])
    forget(folder)


def test_answers_of_another_gpu_are_not_mixed_with_this_ones(tmp_path: Path) -> None:
    KeptAnswers(Asked(), InProcess(), tmp_path).run("memory_encoder", MODEL, GIVEN, "gpu")
    now = KeptAnswers(Asked(gpu="another"), InProcess(), tmp_path)
    now.run("memory_encoder", MODEL, GIVEN, "cpu")
    now.run("memory_encoder", MODEL, GIVEN, "gpu")
    with pytest.raises(UsageError, match="has answers of a GPU, and this is another"):
        now.run("memory_encoder", chain("NEG"), GIVEN, "gpu")


def test_what_goes_beyond_the_limit_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    kept = KeptAnswers(asked, InProcess(), tmp_path)
    kept.run("memory_encoder", MODEL, GIVEN, "gpu")
    (path,) = tmp_path.iterdir()
    monkeypatch.setattr("harness.sam2.video.drift.answers.MOST_BYTES", path.stat().st_size + 11)  # three floats: 12
    for _ in range(2):
        kept.run("memory_encoder", chain("NEG"), GIVEN, "gpu")
    assert (asked.times, len(list(tmp_path.iterdir()))) == (3, 1)
    kept.run("memory_encoder", MODEL, GIVEN, "gpu")
    assert asked.times == 3
