"""The reference workload: the SAM 2.1 Hiera-Tiny mask decoder, from a photo and a tap to a model with its
inputs.

`prompt`, `image` and `workload` need numpy (and Pillow) only; `weights` and `decoder` import torch, and
`worker` runs them in a process of its own, so that torch's memory, noise and import time stay out of the
caller's.
"""
