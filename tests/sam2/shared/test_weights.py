from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.core.errors import UsageError
from harness.sam2.shared.source import resolve
from harness.sam2.shared.weights import load, load_model, load_video, prompt_constants, random_model

if TYPE_CHECKING:
    from transformers import Sam2Config, Sam2Model, Sam2VideoModel

PROMPT_POSITIONS = "prompt_encoder.shared_embedding.positional_embedding"
IMAGE_POSITIONS = "shared_image_embedding.positional_embedding"


def edited(folder: Path, target: Path, *, drop: str | None = None) -> Path:
    """A copy of a saved model without one of its tensors."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    if drop is not None:
        del tensors[drop]
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_the_same_seed_draws_the_same_weights_and_another_seed_others(
    small_config: Sam2Config, small_model: Sam2Model
) -> None:
    again = random_model(small_config, seed=7).state_dict()
    other = random_model(small_config, seed=8).state_dict()
    for name, value in small_model.state_dict().items():
        assert torch.equal(again[name], value), name
        assert not torch.equal(other[name], value), name


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("mask_decoder.upscale_conv1.weight", [0.008294, 0.197422, 0.362828]),
        ("mask_decoder.iou_token.weight", [0.292503, 0.220298, -0.000441]),
        ("mask_decoder.transformer.layers.0.layer_norm1.weight", [0.980020, 1.080448, 0.910074]),
        (IMAGE_POSITIONS, [0.688055, 0.469101, -1.019628]),
    ],
)
def test_a_seed_means_the_same_weights_on_every_machine(small_model: Sam2Model, name: str, first: list[float]) -> None:
    values = small_model.state_dict()[name].flatten()[:3]
    torch.testing.assert_close(values, torch.tensor(first), rtol=0, atol=1e-6)


def test_random_weights_have_the_scale_of_trained_ones(full_decoder_model: Sam2Model) -> None:
    spread = {name: float(value.std(correction=0)) for name, value in full_decoder_model.state_dict().items()}
    assert spread["mask_decoder.transformer.layers.0.mlp.proj_in.weight"] == pytest.approx(1.5 / 16, rel=0.02)
    assert spread["mask_decoder.transformer.layers.0.mlp.proj_out.weight"] == pytest.approx(1.5 / 2048**0.5, rel=0.02)
    assert spread["mask_decoder.upscale_conv1.weight"] == pytest.approx(1.5 / 16, rel=0.02)
    assert spread["mask_decoder.transformer.layers.0.mlp.proj_in.bias"] == pytest.approx(0.3, rel=0.1)
    assert spread["mask_decoder.transformer.layers.0.layer_norm1.weight"] == pytest.approx(0.1, rel=0.2)
    scale = full_decoder_model.state_dict()["mask_decoder.transformer.layers.0.layer_norm1.weight"]
    assert float(scale.mean()) == pytest.approx(1, abs=0.03)


def test_no_random_parameter_is_left_at_a_constant(small_model: Sam2Model) -> None:
    flat = [name for name, value in small_model.state_dict().items() if value.numel() > 1 and value.std() == 0]
    assert flat == []


def test_image_and_prompt_share_one_positional_matrix(small_model: Sam2Model) -> None:
    weights = small_model.state_dict()
    assert torch.equal(weights[IMAGE_POSITIONS], weights[PROMPT_POSITIONS])


def test_drawing_leaves_torchs_random_state_alone(small_config: Sam2Config) -> None:
    before = torch.random.get_rng_state()
    random_model(small_config)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_saved_folder_gives_back_its_weights(small_folder: Path, small_model: Sam2Model) -> None:
    loaded = load_model(str(small_folder))
    assert loaded.provenance == f"folder {small_folder}"
    assert not loaded.is_random
    assert not loaded.model.training
    found = loaded.model.state_dict()
    assert found.keys() == small_model.state_dict().keys()
    for name, value in small_model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_a_checkpoint_of_the_video_model_serves_the_image_model(
    small_config: Sam2Config, small_model: Sam2Model, tmp_path: Path
) -> None:
    from transformers import Sam2VideoConfig, Sam2VideoModel

    parts: Any = small_config
    config = Sam2VideoConfig(
        vision_config=parts.vision_config.to_dict(),
        prompt_encoder_config=parts.prompt_encoder_config.to_dict(),
        mask_decoder_config=parts.mask_decoder_config.to_dict(),
        memory_attention_hidden_size=64,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_num_layers=1,
        memory_encoder_hidden_size=64,
        memory_encoder_output_channels=16,
        mask_downsampler_embed_dim=64,
        memory_fuser_embed_dim=64,
        memory_fuser_intermediate_dim=64,
        memory_attention_rope_feat_sizes=[8, 8],
    )
    video: Any = Sam2VideoModel(config)
    video.load_state_dict(small_model.state_dict(), strict=False)
    video.save_pretrained(tmp_path / "video")
    assert json.loads((tmp_path / "video" / "config.json").read_text())["model_type"] == "sam2_video"
    found = load_model(str(tmp_path / "video")).model.state_dict()
    assert found.keys() == small_model.state_dict().keys()
    for name, value in small_model.state_dict().items():
        assert torch.equal(found[name], value), name


def test_the_published_folder_as_it_is_serves_images_and_the_tracker(
    video_model: Sam2VideoModel, tmp_path: Path
) -> None:
    """Its config.json is of a release before rope_parameters, and Meta's checkpoint and yaml lie beside."""
    video_model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["rope_parameters"]
    config |= {"memory_attention_rope_theta": 10000, "transformers_version": "4.56.0.dev0"}
    for part in ("mask_decoder_config", "prompt_encoder_config"):
        config[part]["model_type"] = ""
    (tmp_path / "config.json").write_text(json.dumps(config))
    pixels = {"point_pad_value": -10, "processor_class": "Sam2VideoProcessor", "target_size": 1024}
    (tmp_path / "processor_config.json").write_text(json.dumps(pixels))
    (tmp_path / "sam2.1_hiera_tiny.pt").write_bytes(b"not looked at")
    (tmp_path / "sam2.1_hiera_t.yaml").write_text("# @package _global_\n")
    source = resolve(str(tmp_path))
    assert source.provenance == f"folder {tmp_path}"
    wanted = video_model.state_dict()
    video = load_video(source)
    assert video.config.to_dict()["rope_parameters"]["rope_theta"] == 10000
    for model in (video, load(source).model):
        for name, value in model.state_dict().items():
            assert torch.equal(value, wanted[name]), name
    assert video.state_dict().keys() == wanted.keys()


def test_a_checkpoint_that_keeps_the_positional_matrix_once_is_completed(
    small_folder: Path, small_model: Sam2Model, tmp_path: Path
) -> None:
    folder = edited(small_folder, tmp_path / "once", drop=PROMPT_POSITIONS)
    constants = prompt_constants(load_model(str(folder)).model)
    assert torch.equal(torch.from_numpy(constants.posmat), small_model.state_dict()[IMAGE_POSITIONS])


def test_missing_weights_are_named(small_folder: Path, tmp_path: Path) -> None:
    folder = edited(small_folder, tmp_path / "holes", drop="mask_decoder.iou_token.weight")
    with pytest.raises(UsageError, match=r"lack 1 of SAM 2's parameters, such as 'mask_decoder.iou_token.weight'"):
        load_model(str(folder))


def test_weights_of_other_sizes_are_refused(small_folder: Path, tmp_path: Path) -> None:
    folder = edited(small_folder, tmp_path / "sizes")
    config = json.loads((folder / "config.json").read_text())
    config["mask_decoder_config"]["mlp_dim"] = 96
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="sizes"):
        load_model(str(folder))


def test_a_truncated_weights_file_is_refused(small_folder: Path, tmp_path: Path) -> None:
    folder = edited(small_folder, tmp_path / "cut")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match=r"The weights in .*cut' cannot be loaded") as caught:
        load_model(str(folder))
    assert "\n" not in str(caught.value)
    assert "random" in caught.value.next_step
