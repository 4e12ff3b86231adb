"""What a client makes of a connection that ends at an awkward moment."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from harness.core.progress import SILENT
from harness.farm import client as module
from harness.farm.client import _Drive
from harness.farm.job import JobSpec, to_text
from harness.farm.matrix import needs, read_matrix
from harness.farm.node import Farm, FarmWorker
from harness.farm.record import MatrixRecord
from harness.farm.transfer import HostGone
from tests import models
from tests.farm.record import outcome


def driven(folder: Path) -> tuple[_Drive, MatrixRecord, JobSpec]:
    """A client with one job that is left."""
    (folder / "m.tflite").write_bytes(models.right().to_bytes())
    (folder / "m.toml").write_text('models = ["m.tflite"]\ndevices = ["S1"]\ncommands = ["compare"]\n')
    record = MatrixRecord(folder / "out")
    matrix = read_matrix(folder / "m.toml", record.id)
    (spec,) = record.begin(matrix)
    drive = _Drive(Farm("tcp://127.0.0.1:1"), matrix, record, SILENT, [spec], total=1)
    return drive, record, spec


@pytest.mark.parametrize("after", [True, False], ids=["after it was written down", "before"])
def test_a_job_that_is_cut_short_is_asked_again_unless_it_was_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """The connection ends while the host is told to drop its copy, or before."""
    drive, record, spec = driven(tmp_path)

    async def hangs(*words: Any) -> None:
        await asyncio.sleep(60)

    async def fetched(*words: Any) -> None:
        words[-1].mkdir(parents=True)

    monkeypatch.setattr(module, "call", hangs)
    monkeypatch.setattr(module, "fetch", fetched if after else hangs)

    async def cut() -> None:
        keeping: Any = drive._keep(None, "keeper", spec, outcome(spec))  # type: ignore[arg-type]
        task = asyncio.ensure_future(keeping)
        drive.flying[task] = spec
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait({task})
        drive._collect(again=True)

    asyncio.run(cut())
    assert list(drive.queues[needs("S1")]) == ([] if after else [spec])
    assert (spec.id in record.finished) is after
    record.close()


@pytest.mark.parametrize("greeted", [True, False])
def test_a_host_that_was_not_asked_yet_what_it_has_gives_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, greeted: bool
) -> None:
    """It may give what came of the job before it was asked again."""
    drive, record, spec = driven(tmp_path)
    drive.workers = [FarmWorker("tcp://lab1:1", frozenset({"keeper:lab1"}), {})]
    drive.greeted = {"tcp://lab1:1"} if greeted else set()

    class Answered:
        """A future of Dask's, and the client that gives it."""

        def submit(self, *words: Any, **more: Any) -> Any:
            return self

        def __await__(self) -> Generator[None, None, str]:
            yield
            return to_text(outcome(spec, run="", files=()))

        def release(self) -> None:
            pass

    async def done(*words: Any) -> None:
        pass

    monkeypatch.setattr(module, "call", done)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    asking: Any = drive._one(Answered(), spec, [])  # type: ignore[arg-type]
    with nullcontext() if greeted else pytest.raises(HostGone, match="lab1 is gone, or is new here"):
        asyncio.run(asking)
    assert (spec.id in record.finished) is greeted
    record.close()
