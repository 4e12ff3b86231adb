"""A phone whose OpenCL does not load: the runtime computes with OpenGL and says so in its log alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.api.on_device import OnDevice
from harness.devices.android.device import PhoneOptions
from harness.graph.build import GraphBuilder
from tests.standin.phone import Phone


@pytest.mark.gpu
def test_opengl_in_opencl_s_place_is_told_on_top_unless_it_was_asked_for(
    phone: Phone, apk: Path, tmp_path: Path
) -> None:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, 8)), graph.constant([1.0])), "y")
    model = graph.build()
    on_phone = OnDevice(phone.serial, tmp_path, 120, PhoneOptions(apk))

    phone.change("app", settings={"STANDIN_DELEGATE": "LITERT_OPENGL"})
    compared, localized = on_phone.compare(model), on_phone.localize(model)
    as_asked = on_phone.compare(model, backend="opengl")
    phone.change("app", settings={"STANDIN_DELEGATE": "LITERT_CL"})
    as_usual = on_phone.compare(model)

    told = {found.folder: "\n".join(found.notes) for found in (compared, localized, as_asked, as_usual)}
    warned = [folder for folder, notes in told.items() if "OpenGL computed in OpenCL's place" in notes]
    assert warned == [compared.folder, localized.folder]
    for folder in told:
        assert folder is not None
        header = (folder / "report.html").read_text("utf-8").partition("</header>")[0]
        assert ("OpenGL computed in" in header) == (folder in warned)
