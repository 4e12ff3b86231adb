"""What the corpus says of one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from harness.graph.model import Model

# Releases of the runtime, oldest first, as device names; `host` is the installed one, 2.3.0.
OLDEST, OLD, BETWEEN, NEWER, NOW = "host@2.1.3", "host@2.1.5", "host@2.1.6", "host@2.2.0", "host"
EVERY = (OLDEST, OLD, BETWEEN, NEWER, NOW)


@dataclass(frozen=True)
class Bug:
    """A graph and what is wrong with it: `culprits` lists (op index, op name, cause) on the releases in `broken`
    (host names; `host` is the installed release).

    `first` is the first op of a pattern that is wrong as a whole, fused or not to be read inside; the culprit is its
    last. `unwritten` marks a graph whose wrong values are what the memory held, others in the next run. `pending` has
    what the harness still answers wrongly, by release. (2.1.5 and older alter a graph output that is read as well,
    #8599, and so what is read of a pattern's inside.)
    """

    name: str
    build: Callable[[], Model]
    culprits: tuple[tuple[int, str, str], ...] = ()
    broken: tuple[str, ...] = ()
    first: int | None = None
    unwritten: bool = False
    pending: Mapping[str, str] = field(default_factory=dict)
