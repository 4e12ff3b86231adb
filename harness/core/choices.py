"""The words for how a model is run, which options, the wire and run.json share."""

from __future__ import annotations

from typing import Literal

Accelerator = Literal["cpu", "gpu", "npu", "reference"]
Precision = Literal["default", "fp16", "fp32", "fp16-fp32acc"]
Backend = Literal["default", "opencl", "opengl"]
Storage = Literal["default", "buffer", "texture-2d"]
Priority = Literal["default", "low", "normal", "high"]
Fallback = Literal["none", "cpu"]
