"""Meta's own predictors with the weights of a `transformers` model.

The package is `sam2`, with hydra-core, iopath and torchvision; it is in no requirement of this project. It may lie in a
folder of its own, which `HARNESS_META_SAM2` names.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.sam2.meta_names import to_meta

if TYPE_CHECKING:
    from transformers import Sam2VideoModel


def module(name: str) -> Any:
    """A module of Meta's package, or of what it needs; no type checker sees them."""
    return importlib.import_module(name)


FOLDER = "HARNESS_META_SAM2"
"""Names the folder with the package."""


def require_package() -> None:
    """Have Meta's package importable, or skip the test."""
    # Before torchvision may be in sight, which transformers would import otherwise.
    from transformers import Sam2VideoModel  # noqa: F401

    folder = os.environ.get(FOLDER)
    if folder and folder not in sys.path:
        sys.path.append(folder)
    if importlib.util.find_spec("sam2") is None:
        pytest.skip(
            "Meta's package is absent: pip install --no-deps --target DIR sam2 hydra-core iopath omegaconf portalocker "
            "antlr4-python3-runtime==4.9.3 torchvision, and HARNESS_META_SAM2=DIR"
        )
    try:
        module("torchvision")
    except RuntimeError:
        # Built for another torch, it has no operators; what is used of it here is written in Python.
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        make: Any = torch.library.Library
        library = make("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _LIBRARIES.append(library)
        module("torchvision")


_LIBRARIES: list[Any] = []


def predictor(model: Sam2VideoModel) -> Any:
    """Meta's video predictor, as `build_sam2_video_predictor` configures it, with the weights of `model`; without the
    filling of holes, which needs its CUDA extension."""
    from harness.sam2.video.conversion.modules import video_sizes

    configs = Path(next(iter(module("sam2").__path__))) / "configs"
    side = video_sizes(model).side
    told = module("omegaconf").OmegaConf.load(configs / "sam2.1" / "sam2.1_hiera_t.yaml").model
    told._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    told.image_size = side
    for attention in (told.memory_attention.layer.self_attention, told.memory_attention.layer.cross_attention):
        attention.feat_sizes = [side // 16, side // 16]
    told.binarize_mask_from_pts_for_mem_enc = True
    told.sam_mask_decoder_extra_args = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    found = module("hydra.utils").instantiate(told, _recursive_=True)
    found.load_state_dict(to_meta(model.state_dict()))
    return found.eval()
