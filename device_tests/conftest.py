"""The SAM 2.1 decoder for the tests on devices, converted once and cached."""

import pytest

from harness.devices.cache import cache_folder
from harness.sam2.image_path.workload import Workload, prepare


@pytest.fixture(scope="session")
def decoder() -> Workload:
    """The mask decoder, the sample portrait's features and a tap on the face; random weights where none can be had."""
    return prepare(cache_folder() / "sam2")
