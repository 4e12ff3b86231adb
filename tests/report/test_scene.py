"""The masks over the photo: what enters the page, and what stays outside."""

from __future__ import annotations

import io
import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from harness.core.fields import Fields
from harness.report.scene import CPU_COLOUR, GPU_COLOUR, PhotoScene, read_scene

if TYPE_CHECKING:
    from tests.report.conftest import Make, Read, Samples

WIDTH, HEIGHT = 120, 160
SCENE: dict[str, Any] = {
    "photo": "scene/photo.jpg",
    "size": [WIDTH, HEIGHT],
    "tap": [60, 70],
    "candidate": 1,
    "iou": 0.97,
    "masks": {"reference": "scene/mask-reference.png", "device": "scene/mask-device.png"},
    "label": "candidate mask 2 of 3",
}


def ellipse(x: float, y: float, a: float, b: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    inside: NDArray[np.bool_] = ((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1
    return inside


def save_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A photo with a place and an owner in it, and two ellipses."""
    folder = tmp_path / "run"
    (folder / "scene").mkdir(parents=True)
    shades = np.linspace(0, 255, WIDTH * HEIGHT * 3).astype(np.uint8).reshape(HEIGHT, WIDTH, 3)
    exif = Image.Exif()
    exif[0x8298] = "SECRET OWNER"
    Image.fromarray(shades).save(folder / "scene/photo.jpg", exif=exif)
    save_mask(folder / "scene/mask-reference.png", ellipse(60, 70, 20, 30))
    save_mask(folder / "scene/mask-device.png", ellipse(63, 70, 20, 30))
    return folder


Load = Callable[..., PhotoScene]


@pytest.fixture
def load(folder: Path) -> Load:
    return lambda **changed: read_scene(folder, Fields(SCENE | changed), "host GPU")


def picture(uri: str) -> Image.Image:
    head, _, data = uri.partition(";base64,")
    assert head in ("data:image/png", "data:image/jpeg")
    return Image.open(io.BytesIO(b64decode(data)))


def test_both_masks_and_their_difference_are_shown(load: Load) -> None:
    scene = load()
    assert scene.problem == ""
    assert [panel.title for panel in scene.panels] == ["CPU reference", "host GPU", "Difference, enlarged 2.3×"]
    assert (scene.width, scene.height, scene.tap, scene.iou) == (WIDTH, HEIGHT, (60, 70), 0.97)


def test_an_overlay_covers_its_mask_and_nothing_else(load: Load) -> None:
    for panel, mask, colour in zip(
        load().panels, (ellipse(60, 70, 20, 30), ellipse(63, 70, 20, 30)), (CPU_COLOUR, GPU_COLOUR), strict=False
    ):
        shown = np.asarray(picture(panel.overlay).convert("RGBA"))
        assert np.array_equal(shown[..., 3] > 0, mask)
        assert (shown[mask][:, :3] == colour).all()


def test_the_difference_tells_which_side_has_what(load: Load) -> None:
    reference, device = ellipse(60, 70, 20, 30), ellipse(63, 70, 20, 30)
    panel = load().panels[2]
    shown = np.asarray(picture(panel.overlay).convert("RGBA"))
    assert np.array_equal((shown[..., :3] == CPU_COLOUR).all(axis=2) & (shown[..., 3] == 255), reference & ~device)
    assert np.array_equal((shown[..., :3] == GPU_COLOUR).all(axis=2) & (shown[..., 3] == 255), device & ~reference)
    counts = np.count_nonzero(reference & ~device), np.count_nonzero(device & ~reference)
    assert [part.text for part in panel.parts] == [
        f"{counts[0]} px on the CPU alone",
        f"{counts[1]} px on the device alone",
    ]


def test_the_difference_is_enlarged_around_the_masks_in_the_photos_proportions(load: Load) -> None:
    view = load().panels[2].view
    assert view.width / view.height == pytest.approx(WIDTH / HEIGHT, rel=0.01)
    assert view.x <= 40 and view.x + view.width >= 83
    assert view.y <= 40 and view.y + view.height >= 100


def test_what_a_photo_carries_besides_its_pixels_stays_outside(folder: Path, load: Load) -> None:
    assert b"SECRET OWNER" in (folder / "scene/photo.jpg").read_bytes()
    scene = load()
    assert b"SECRET OWNER" not in b64decode(scene.photo.partition(";base64,")[2])
    assert not picture(scene.photo).getexif()


def test_a_large_photo_is_made_smaller(folder: Path, load: Load) -> None:
    size = (3000, 2000)
    Image.new("RGB", size).save(folder / "scene/photo.jpg")
    for name in ("reference", "device"):
        Image.new("L", size, 255).save(folder / f"scene/mask-{name}.png")
    scene = load()
    assert (scene.width, scene.height) == size
    assert max(picture(scene.photo).size) == 1024


def test_empty_masks_agree(folder: Path, load: Load) -> None:
    for name in ("reference", "device"):
        save_mask(folder / f"scene/mask-{name}.png", np.zeros((HEIGHT, WIDTH), bool))
    scene = load(iou=None)
    assert scene.iou == 1.0
    assert scene.panels[2].title == "Difference"


def test_a_tap_outside_the_photo_is_not_drawn(load: Load) -> None:
    assert load(tap=[500, 5]).tap is None
    assert load(tap=["nan", 5]).tap is None
    assert load(tap=[]).tap is None


@pytest.mark.parametrize("name", ["/etc/hostname", "../outside.jpg", "scene/../../outside.jpg", "", "a\0b"])
def test_a_picture_outside_the_run_folder_is_not_read(name: str, folder: Path, load: Load) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder.parent / "outside.jpg")
    scene = load(photo=name)
    assert scene.problem and not scene.panels


def test_a_link_out_of_the_run_folder_is_not_followed(folder: Path, load: Load) -> None:
    outside = folder.parent / "outside.jpg"
    Image.new("RGB", (WIDTH, HEIGHT)).save(outside)
    (folder / "scene/photo.jpg").unlink()
    (folder / "scene/photo.jpg").symlink_to(outside)
    assert "outside its folder" in load().problem


def test_what_is_no_picture_becomes_a_sentence(folder: Path, load: Load) -> None:
    (folder / "scene/photo.jpg").write_bytes(b"<svg onload=alert(1)>")
    assert load().problem == "scene/photo.jpg cannot be shown: it is no picture that can be read."
    (folder / "scene/photo.jpg").unlink()
    assert load().problem == "scene/photo.jpg cannot be shown: No such file or directory."


def test_a_cut_off_picture_becomes_a_sentence(folder: Path, load: Load) -> None:
    whole = (folder / "scene/mask-device.png").read_bytes()
    (folder / "scene/mask-device.png").write_bytes(whole[: len(whole) // 2])
    assert "cannot be shown" in load().problem


def test_a_picture_of_endless_pixels_becomes_a_sentence(folder: Path, load: Load) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / "scene/photo.jpg", "PNG")
    assert load().problem


def test_masks_of_another_size_are_not_shown(folder: Path, load: Load) -> None:
    Image.new("L", (10, 10)).save(folder / "scene/mask-device.png")
    assert "differ from its photo in size" in load().problem


def test_the_page_has_the_photo_once_and_shows_it_three_times(
    folder: Path, make: Make, read: Read, samples: Samples
) -> None:
    run = make(samples.record(scene=SCENE, provenance="random weights, seed 0"))
    assert run == folder
    section = read(run).one("section", id="masks")
    photos = [image for image in section.all("image") if image.attrs["href"].startswith("data:image/jpeg")]
    assert len(photos) == 1
    assert len([use for use in section.all("use") if use.attrs["href"] == "#photo"]) == 3
    assert "Candidate mask 2 of 3. IoU of both masks on the photo: 0.9700." in section.text
    assert len(section.all("figure")) == 3


def test_the_page_says_why_there_are_no_pictures(make: Make, read: Read, samples: Samples) -> None:
    run = make(samples.record(scene=SCENE))
    assert "scene/photo.jpg cannot be shown" in read(run).one("section", id="masks").text
    assert json.loads((run / "run.json").read_text())["scene"]


def grid(*masks: str | None, title: str = "GPU") -> dict[str, Any]:
    cells = [{"mask": mask, "iou": None if mask is None else 0.5} for mask in masks]
    columns = [{"title": "CPU", "ok": True}, {"title": title, "ok": False}]
    return {"columns": columns, "rows": [{"name": "face", "tap": [60, 70], "candidate": 0, "masks": cells}]}


STORY = [
    {"key": "compare", "title": "CPU against GPU", "sentences": ["They differ."], "commands": ["harness <b> --x"]},
    {"key": "op", "title": "Which op", "sentences": ["ADD <i>#3</i>."], "commands": []},
]
BOTH = ("scene/mask-reference.png", "scene/mask-device.png")


def test_a_cell_is_light_and_solid_where_it_differs(load: Load) -> None:
    reference, device = ellipse(60, 70, 20, 30), ellipse(63, 70, 20, 30)
    (line,) = load(grid=grid(*BOTH)).lines
    assert [(cell.title, cell.iou) for cell in line.cells] == [("CPU", None), ("GPU", 0.5)] and line.tap == (60, 70)
    shown = np.asarray(picture(line.cells[1].overlay).convert("RGBA"))
    blue, orange = ((shown[..., :3] == colour).all(axis=2) for colour in (CPU_COLOUR, GPU_COLOUR))
    solid = shown[..., 3] == 255
    assert np.array_equal(blue & solid, reference & ~device)
    assert np.array_equal(orange & solid, device & ~reference)
    assert np.array_equal(~solid & (shown[..., 3] > 0), device & reference)


def test_a_cell_that_did_not_run_says_so(folder: Path, make: Make, read: Read, samples: Samples) -> None:
    make(samples.record(scene=SCENE | {"grid": grid(BOTH[0], None), "story": STORY}))
    section = read(folder).one("section", id="story")
    assert "GPU did not run" in section.text and "CPU reference" in section.text
    assert "ADD <i>#3</i>." in section.text and "harness <b> --x" in section.text


@pytest.mark.parametrize("name", ["../outside.png", "/etc/hostname", "scene/none.png"])
def test_a_cell_outside_the_run_folder_is_not_read(name: str, folder: Path, load: Load) -> None:
    save_mask(folder.parent / "outside.png", ellipse(60, 70, 20, 30))
    scene = load(grid=grid(BOTH[0], name), story=STORY)
    assert scene.problem and not scene.lines and len(scene.chapters) == 2


def test_a_cell_of_another_size_is_not_shown(folder: Path, load: Load) -> None:
    Image.new("L", (10, 10)).save(folder / "scene/small.png")
    assert "differ from its photo in size" in load(grid=grid(BOTH[0], "scene/small.png")).problem


def test_a_story_of_endless_chapters_is_cut(load: Load) -> None:
    scene = load(story=STORY * 100, grid={"columns": [], "rows": [{"name": "face", "masks": []}] * 100})
    assert len(scene.chapters) == 12 and len(scene.lines) == 12


def test_a_grid_without_columns_breaks_no_page(folder: Path, make: Make, read: Read, samples: Samples) -> None:
    empty = {"columns": [], "rows": [{"name": "face", "tap": [], "candidate": 0, "masks": []}]}
    make(samples.record(scene=SCENE | {"grid": empty, "story": STORY}))
    assert "They differ." in read(folder).one("section", id="story").text
