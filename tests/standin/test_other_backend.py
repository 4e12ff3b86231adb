"""A phone whose OpenCL does not load: the runtime computes with OpenGL and says so in its log alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.api.on_device import OnDevice
from harness.devices.android.device import PhoneOptions
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.standin.phone import Phone


@pytest.fixture
def model() -> Model:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 8)), graph.constant([1.0])), "y")
    return graph.build()


@pytest.fixture
def opengl(phone: Phone) -> Iterator[Callable[[bool], None]]:
    """Has the runtime compute with OpenGL, or as usual."""

    def change(computes: bool) -> None:
        phone.change("app", settings={"STANDIN_DELEGATE": "LITERT_OPENGL" if computes else "LITERT_CL"})

    yield change
    change(False)


@pytest.mark.gpu
def test_opengl_in_opencl_s_place_is_told_on_top_unless_it_was_asked_for(
    phone: Phone, apk: Path, tmp_path: Path, model: Model, opengl: Callable[[bool], None]
) -> None:
    on_phone = OnDevice(phone.serial, tmp_path, 120, PhoneOptions(apk))

    opengl(True)
    compared, localized = on_phone.compare(model), on_phone.localize(model)
    as_asked = on_phone.compare(model, backend="opengl")
    opengl(False)
    as_usual = on_phone.compare(model)

    told = {found.folder: "\n".join(found.notes) for found in (compared, localized, as_asked, as_usual)}
    warned = [folder for folder, notes in told.items() if "OpenGL computed in OpenCL's place" in notes]
    assert warned == [compared.folder, localized.folder]
    for folder in told:
        assert folder is not None
        header = (folder / "report.html").read_text("utf-8").partition("</header>")[0]
        assert ("OpenGL computed in" in header) == (folder in warned)


@pytest.mark.gpu
@pytest.mark.parametrize("command", ["audit", pytest.param("run", marks=pytest.mark.slow)])
def test_what_compares_nothing_says_it_too(
    command: str,
    phone: Phone,
    apk: Path,
    tmp_path: Path,
    model: Model,
    opengl: Callable[[bool], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HARNESS_APK", str(apk))
    path = tmp_path / "model.tflite"
    path.write_bytes(model.to_bytes())
    said = []
    for computes in (True, False):
        opengl(computes)
        words = [sys.executable, "-m", "harness", command, str(path), "--device", phone.serial]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        said.append("OpenGL computed in OpenCL's place" in " ".join(done.stderr.split()))
    assert said == [True, False]
