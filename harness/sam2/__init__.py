"""The reference workload: the SAM 2.1 Hiera-Tiny image path, from a photo and taps to masks, and its parts as models
with inputs.

    photo --image--> pixels --encoder--> features ----+
    taps  --taps, prompt--> sparse prompt ------------+--decoder--> masks and scores --click--> PNGs and JSON

`encoder`, `decoder`, their parts (`attention`, `norm`, `sums`), `weights` and `reference` import torch; `worker` runs
them in a process of its own, so that torch's memory, noise and import time stay out of the caller's. All other modules
need numpy and Pillow, and for running models the harness's devices. `ablate`, `accuracy` and `fidelity` measure; `show`
is the only one that prints.
"""
