"""The one name for an array of any type and shape, and one for each of the two ways in which a graph is numbered."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

Array = np.ndarray[Any, Any]

TensorIndex: TypeAlias = int
"""The place of a tensor among those of its subgraph; -1 for an optional one that an op goes without."""

OpIndex: TypeAlias = int
"""The place of an op among those of its subgraph, in the file's order."""
