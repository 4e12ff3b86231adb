"""Meta's own checkpoints: the same weights under other names, and no file is believed before it is looked at."""

from __future__ import annotations

import collections
import hashlib
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from harness.core.errors import UsageError
from harness.sam2.shared import meta_checkpoint
from harness.sam2.shared.card import requested_source, source_request
from harness.sam2.shared.meta_checkpoint import SIZES
from harness.sam2.shared.source import resolve
from harness.sam2.shared.weights import load, load_model, load_video, random_model, random_video_model
from tests.sam2.meta_names import to_meta

if TYPE_CHECKING:
    from transformers import Sam2VideoModel

# SHA-256 of "name [shape]" a line, sorted, of the modules of the PyPI package sam2 1.1.0, built from its yaml files.
METAS_NAMES = {
    "Hiera-Tiny": "aa97d3d723e3d9a274fafe9acc485268e11cfbd8f8906f147bd0966ea5a67ec9",
    "Hiera-Small": "3bfa6b62d57cfb99196f6fdbf1fad40176b4c21ef18c8cf761c21082e8300909",
    "Hiera-Base+": "3306e68a5090c989ce9495f712ed93942de79abd2f18b4686a66f2760eb5d0b2",
    "Hiera-Large": "e80150164c9113ced6aebba005c54086720f89e4608bd3d495c95af8ffa276ba",
}


def save(file: Path, tensors: Mapping[str, Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {name: v.clone() if isinstance(v, Tensor) else v for name, v in tensors.items()}}, file)
    return file


@pytest.fixture
def small_size(video_model: Sam2VideoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the small model for one of the published sizes."""
    content = video_model.config.to_dict()
    monkeypatch.setattr(meta_checkpoint, "configuration", lambda tensors, file: ("SAM 2.1 small", content))


@pytest.fixture(scope="session")
def small_tensors(video_model: Sam2VideoModel) -> dict[str, Tensor]:
    return to_meta(video_model.state_dict())


@pytest.mark.usefixtures("small_size")
def test_every_tensor_of_a_checkpoint_arrives_bit_for_bit(
    video_model: Sam2VideoModel, small_tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    source = resolve(str(save(tmp_path / "sam2.1_hiera_tiny.pt", small_tensors)))
    assert source.provenance == "Meta's checkpoint sam2.1_hiera_tiny.pt"
    assert not source.is_random
    wanted = video_model.state_dict()
    video = load_video(source)
    assert not video.training
    assert not any(parameter.requires_grad for parameter in video.parameters())
    for found in (video.state_dict(), load(source).model.state_dict()):
        assert len(found) > 200
        for name, value in found.items():
            assert torch.equal(value, wanted[name]), name
    assert video.state_dict().keys() == wanted.keys()


@pytest.mark.usefixtures("small_size")
def test_the_worker_is_told_of_a_checkpoint(small_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    source = resolve(str(save(tmp_path / "mine.pt", small_tensors)))
    assert requested_source({"source": source_request(source)}) == source
    assert source.checkpoint == tmp_path / "mine.pt"


def test_a_checkpoint_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    first = resolve(str(save(tmp_path / "a.pt", {"x": torch.zeros(2)})))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.pt").write_bytes((tmp_path / "a.pt").read_bytes())
    assert resolve(str(tmp_path / "folder")).key == first.key
    assert resolve(str(save(tmp_path / "c.pt", {"x": torch.ones(2)}))).key != first.key


def test_a_folder_of_transformers_with_a_checkpoint_beside_is_taken_as_a_folder(
    small_folder: Path, tmp_path: Path
) -> None:
    """The published repository has both."""
    for file in small_folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    save(tmp_path / "sam2.1_hiera_tiny.pt", {"x": torch.zeros(2)})
    (tmp_path / "sam2.1_hiera_t.yaml").write_text("model: 1\n")
    assert resolve(str(tmp_path)).key == resolve(str(small_folder)).key
    assert load_model(str(tmp_path)).provenance == f"folder {tmp_path}"


def test_of_several_checkpoints_in_a_folder_none_is_guessed(tmp_path: Path) -> None:
    for name in ("one.pt", "two.pt"):
        save(tmp_path / name, {"x": torch.zeros(2)})
    with pytest.raises(UsageError, match=r"has 2 checkpoints: one\.pt, two\.pt\. Name one of them\."):
        resolve(str(tmp_path))


def test_a_checkpoint_that_is_not_there_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"The file 'weights/sam2\.1_hiera_tiny\.pt' does not exist"):
        resolve("weights/sam2.1_hiera_tiny.pt")


def names_and_shapes(tensors: Mapping[str, Tensor]) -> str:
    lines = sorted(f"{name} {list(value.shape)}" for name, value in tensors.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize(("width", "blocks"), SIZES)
def test_a_size_has_metas_names_and_shapes(width: int, blocks: int) -> None:
    from transformers import Sam2VideoConfig, Sam2VideoModel

    patches = torch.zeros(width, 3, 7, 7)
    shapes = {"vision_encoder.backbone.patch_embed.projection.weight": patches}
    shapes |= {f"vision_encoder.backbone.blocks.{n}.layer_norm1.bias": patches for n in range(blocks)}
    shapes["temporal_positional_encoding_projection_layer.weight"] = patches
    shapes["occlusion_spatial_embedding_parameter"] = patches
    name, content = meta_checkpoint.configuration(shapes, Path("x.pt"))
    with torch.device("meta"):
        state = Sam2VideoModel(Sam2VideoConfig(**content)).state_dict()
    tensors = to_meta(state)
    assert names_and_shapes(tensors) == METAS_NAMES[name.removeprefix("SAM 2.1 ")]
    # One number stands for every tensor: their shapes are real, and there is no room taken.
    lent = {name: torch.zeros(()).expand(value.shape) for name, value in tensors.items()}
    read = meta_checkpoint.translated(lent, Path("x.pt"))
    assert {name: value.shape for name, value in read.items()} == {name: v.shape for name, v in state.items()}


def test_another_size_is_refused_by_its_figures() -> None:
    given = {"vision_encoder.backbone.patch_embed.projection.weight": torch.zeros(8, 3, 7, 7)}
    with pytest.raises(UsageError, match=r"'x\.pt' has 0 blocks from 8 channels on: none of SAM 2's sizes"):
        meta_checkpoint.configuration(given, Path("x.pt"))


def test_the_first_sam2_serves_images_and_no_tracker(
    video_model: Sam2VideoModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It encodes no pointer's age and marks no hidden object: two flags, which its tensors tell."""
    told = meta_checkpoint.configuration
    small = video_model.config.to_dict()

    def configuration(tensors: Mapping[str, Tensor], file: Path) -> tuple[str, dict[str, Any]]:
        full = {"vision_encoder.backbone.patch_embed.projection.weight": torch.zeros(96, 3, 7, 7)}
        full |= {f"vision_encoder.backbone.blocks.{n}.proj.bias": torch.zeros(1) for n in range(12)}
        full |= {name: value for name, value in tensors.items() if not name.startswith("vision_encoder.")}
        name, content = told(full, file)
        return name, {**small, **{key: value for key, value in content.items() if key.startswith("enable")}}

    monkeypatch.setattr(meta_checkpoint, "configuration", configuration)
    tensors = {
        name: value
        for name, value in to_meta(video_model.state_dict()).items()
        if not name.startswith(("obj_ptr_tpos_proj", "no_obj_embed_spatial"))
    }
    source = resolve(str(save(tmp_path / "sam2_hiera_tiny.pt", tensors)))
    load(source)
    with pytest.raises(UsageError) as caught:
        load_video(source)
    assert "of SAM 2 Hiera-Tiny, has enable_temporal_pos_encoding_for_object_pointers = False" in str(caught.value)


@pytest.mark.usefixtures("small_size")
@pytest.mark.parametrize(
    ("drop", "add", "sentence"),
    [
        (
            ["sam_mask_decoder.iou_token.weight", "no_mem_embed"],
            {},
            r"lacks 2 of SAM 2's tensors: mask_decoder\.iou_token\.weight, no_memory_embedding\.",
        ),
        (["sam_prompt_encoder.point_embeddings.2.weight"], {}, r"lacks 1 .*: prompt_encoder\.point_embed\.weight"),
        (
            [],
            {f"lora.{n}.weight": torch.zeros(1) for n in range(5)},
            r"has 5 tensors that SAM 2 has not: lora\.0\.weight, lora\.1\.weight, lora\.2\.weight and 2 more\.",
        ),
        (
            [],
            {"image_encoder.trunk.blocks.9.norm1.weight": torch.zeros(8)},
            r"has 1 tensors too many: vision_encoder\.backbone\.blocks\.9\.layer_norm1\.weight\.",
        ),
        (
            [],
            {"sam_mask_decoder.iou_token.weight": torch.zeros(1, 64)},
            r"has mask_decoder\.iou_token\.weight of \[1, 64\], and not \[1, 128\]",
        ),
        ([], {"no_mem_embed": torch.zeros(1, 1, 128, dtype=torch.int32)}, r"'no_mem_embed' is no tensor of reals"),
        ([], {"no_mem_embed": [0.0] * 128}, r"'no_mem_embed' is no tensor of reals"),
    ],
)
def test_tensors_that_are_missing_too_many_or_of_another_kind_are_named(
    small_tensors: dict[str, Tensor], tmp_path: Path, drop: list[str], add: dict[str, Any], sentence: str
) -> None:
    tensors = {name: value for name, value in small_tensors.items() if name not in drop} | add
    source = resolve(str(save(tmp_path / "x.pt", tensors)))
    with pytest.raises(UsageError, match=sentence) as caught:
        load(source)
    assert "\n" not in str(caught.value)


def test_a_tensor_without_numbers_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'no_mem_embed' is no tensor of reals"):
        meta_checkpoint.translated({"no_mem_embed": torch.zeros(1, 1, 256, device="meta")}, Path("x.pt"))


@pytest.mark.usefixtures("small_size")
def test_a_shape_is_not_believed_for_it_costs_nothing(small_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """A few bytes may claim to be a tensor of a petabyte."""
    vast = torch.zeros(1).expand(1, 1 << 50)
    points = {name: vast for name in small_tensors if "point_embeddings" in name}
    torch.save({"model": {**small_tensors, **points}}, tmp_path / "x.pt")
    with pytest.raises(UsageError, match=r"lacks 1 .*: prompt_encoder\.point_embed\.weight"):
        load(resolve(str(tmp_path / "x.pt")))


@pytest.mark.usefixtures("small_size")
def test_half_precision_is_widened(small_tensors: dict[str, Tensor], tmp_path: Path) -> None:
    halves = {name: value.bfloat16() for name, value in small_tensors.items()}
    found = load(resolve(str(save(tmp_path / "x.pt", halves)))).model.state_dict()
    wanted = halves["no_mem_embed"].float()
    assert found["no_memory_embedding"].dtype == torch.float32
    assert torch.equal(found["no_memory_embedding"], wanted)


class Call:
    """Unpickled, it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_pickle_that_would_run_something_is_refused_in_one_sentence(tmp_path: Path) -> None:
    torch.save({"model": Call(f"touch {tmp_path}/run")}, tmp_path / "x.pt")
    source = resolve(str(tmp_path / "x.pt"))
    with pytest.raises(UsageError, match=r"The checkpoint .*x\.pt' cannot be read \(.+\)\. Give sam2\.1") as caught:
        load(source)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], r"no 'model' in it, but list"),
        ({"state_dict": {}, "epoch": 3}, r"no 'model' in it, but state_dict, epoch\."),
        ({"model": torch.zeros(3)}, r"no 'model' in it, but model\."),
    ],
)
def test_another_content_is_told(tmp_path: Path, content: Any, sentence: str) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(UsageError, match=sentence):
        load(resolve(str(tmp_path / "x.pt")))


def test_a_file_that_is_no_archive_of_torch_is_not_opened(tmp_path: Path) -> None:
    file = save(tmp_path / "x.pt", {"x": torch.zeros(1000)})
    whole = file.read_bytes()
    for content, reason in (
        (whole[: len(whole) // 2], "File is not a zip file"),
        (b"", "File is not a zip file"),
        (pickle.dumps(collections.OrderedDict()), "File is not a zip file"),
    ):
        file.write_bytes(content)
        with pytest.raises(UsageError, match=rf"x\.pt' is not a checkpoint of Meta's \({reason}\)"):
            resolve(str(file))


def test_an_archive_that_grows_when_it_is_unpacked_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * (1 << 20))
    with pytest.raises(UsageError, match=r"its entries are compressed, and torch\.save's are not"):
        resolve(str(tmp_path / "x.pt"))


def test_an_archive_whose_list_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path / "x.pt", {"x": torch.zeros(1000)})
    content = bytearray(file.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = (0x7FFFFFFF).to_bytes(4, "little")
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"its entries claim more bytes than it has"):
        resolve(str(file))


def test_an_archive_of_very_many_entries_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for number in range(10_001):
            archive.writestr(f"x/{number}", b"")
    with pytest.raises(UsageError, match=r"it has 10,001 entries"):
        resolve(str(tmp_path / "x.pt"))


def test_an_archive_without_a_pickle_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("photo.png", b"\0")
    with pytest.raises(UsageError, match=r"it is not what torch\.save writes"):
        resolve(str(tmp_path / "x.pt"))


def test_a_file_far_too_large_is_not_read(tmp_path: Path) -> None:
    """A hole of 6 GB, which takes no room on a disk."""
    (tmp_path / "x.pt").touch()
    os.truncate(tmp_path / "x.pt", 6 << 30)
    with pytest.raises(UsageError, match=r"it has 6,442,450,944 bytes, and Meta's largest 0\.9 GB"):
        resolve(str(tmp_path / "x.pt"))


@pytest.mark.slow
def test_the_full_size_model_is_recognized_and_computes_the_same(tmp_path: Path) -> None:
    whole = random_video_model(seed=3)
    source = resolve(str(save(tmp_path / "sam2.1_hiera_tiny.pt", to_meta(whole.state_dict()))))
    video = load_video(source)
    assert video.config.to_dict() == whole.config.to_dict() | {"_name_or_path": video.config._name_or_path}
    for name, value in whole.state_dict().items():
        assert torch.equal(video.state_dict()[name], value), name
    image, same = load(source).model, random_model(seed=3)
    assert image.state_dict().keys() == same.state_dict().keys()
    pixels = torch.randn(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    points = torch.tensor([[[[300.0, 400.0]]]])
    with torch.inference_mode():
        found, wanted = (model(pixel_values=pixels, input_points=points) for model in (image, same))
    assert torch.equal(found.pred_masks, wanted.pred_masks)
    assert torch.equal(found.iou_scores, wanted.iou_scores)
