"""Real delegate bugs as small graphs, with the op to blame.

Every case is built in code, and its inputs come from a fixed seed: a test that runs one needs no file. Those that bear
a number are named after their reports in google-ai-edge/LiteRT; docs/delegate.md explains the others.
"""

from device_tests.corpus.bug import OLD, Bug
from device_tests.corpus.constants import CONSTANTS
from device_tests.corpus.fusions import FUSIONS
from device_tests.corpus.kernels import KERNELS
from device_tests.corpus.limits import LIMITS
from device_tests.corpus.parsing import PARSING
from device_tests.corpus.reported import (
    REPORTED,
    broadcast_add_8593,
    healthy_attention,
    healthy_mlp,
    rank3_pad_9272,
    rank3_pad_beside_loud_channels,
)
from device_tests.corpus.swallowed import SWALLOWED
from device_tests.corpus.sweep import SWEPT

CORPUS = (*CONSTANTS, *PARSING, *FUSIONS, *SWALLOWED, *KERNELS, *LIMITS, *SWEPT, *REPORTED)

__all__ = [
    "CORPUS",
    "OLD",
    "REPORTED",
    "Bug",
    "broadcast_add_8593",
    "healthy_attention",
    "healthy_mlp",
    "rank3_pad_9272",
    "rank3_pad_beside_loud_channels",
]
