"""The first layers of a ResNet as litert-torch converts them: max-pooling with a border is a PADV2 of -inf."""

from __future__ import annotations

from pathlib import Path

SIDE = 64
"""Height and width of the image; ResNet's own is 224."""


def write_stem(path: Path) -> None:
    """Convolution 7x7 of stride 2, batch norm, RELU, max-pooling 3x3 of stride 2 with a border of 1; random weights."""
    import litert_torch
    import torch
    from torch import nn

    torch.manual_seed(0)
    norm = nn.BatchNorm2d(64)
    assert norm.running_mean is not None and norm.running_var is not None
    norm.running_mean.normal_(0, 0.5)
    norm.running_var.uniform_(0.5, 2.0)
    stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), norm, nn.ReLU(), nn.MaxPool2d(3, 2, 1)).eval()
    litert_torch.convert(stem, (torch.zeros(1, 3, SIDE, SIDE),)).export(str(path))
