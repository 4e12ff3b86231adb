"""Inputs that stay on a device: sent once, and named by their SHA-256 from then on.

A localization runs the same inputs through several models. A device that says so in its greeting holds them in its
store, beside the models. It is asked before each run whether it has them still, so that what its store dropped, or lost
with the app's data, is sent again. Where that does not help (no room for inputs and model at once, an input that
vanished after the question), inputs travel with each run, as to a device that keeps none, until the device's process
is started again.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.devices.link import PIECE, Message, announce

BY_DIGEST = "inputs-by-digest"
"""The ability's word in an answer to `hello`."""

_known: dict[int, tuple[weakref.ref[Array], dict[str, Any]]] = {}
"""What was computed of arrays that nothing can change, for as long as they live."""

Offer = Callable[[str, Array], bool]
"""Has bytes of a SHA-256 on the device, sent where they are not there; False where it does not take them."""


class KeptInputs:
    """What one process on a device can be spared; without its greeting, nothing."""

    def __init__(self, hello: Message | None = None) -> None:
        abilities = None if hello is None else hello.fields.get("abilities")
        self._able = isinstance(abilities, list) and BY_DIGEST in abilities

    def keep(self, inputs: Mapping[str, Array], offer: Offer) -> dict[str, str]:
        """The SHA-256 of each input that is on the device now, by its name: of all that are worth the question."""
        kept: dict[str, str] = {}
        for name, array in inputs.items():
            if self._able and array.nbytes > PIECE:
                data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                digest = str(_of(array, "sha256", partial(_sha256, data)))
                self._able = offer(digest, data)
                if self._able:
                    kept[name] = digest
        return kept

    def missed(self, reply: Message) -> bool:
        """Whether a run was refused because what it names is not there. From then on the device is spared nothing."""
        missing = reply.type == "failed" and reply.fields.get("kind") == "missing"
        self._able = self._able and not missing
        return missing


def sent_with_run(
    inputs: Mapping[str, Array], kept: Mapping[str, str]
) -> tuple[dict[str, Any], list[tuple[str, Array]]]:
    """A run's field `inputs`, none where nothing is kept, and its payloads: the inputs that `kept` has no SHA-256 of.

    Raises:
        LinkError: the wire does not carry the type of one.
    """
    payloads = [(name, array) for name, array in inputs.items() if name not in kept]
    if not kept:
        return {}, payloads
    named = [
        _announced(name, array) | {"sha256": kept[name]} if name in kept else None for name, array in inputs.items()
    ]
    return {"inputs": named}, payloads


def _sha256(data: Array) -> str:
    return hashlib.sha256(data.data).hexdigest()


def _announced(name: str, array: Array) -> dict[str, Any]:
    said: dict[str, Any] = _of(array, "announced", lambda: announce(name, np.asarray(array, order="C")))
    return said | {"name": name}


def _of(array: Array, what: str, compute: Callable[[], Any]) -> Any:
    """What `compute` gives, computed once of an array that owns its memory and cannot be written to."""
    if array.flags.writeable or not array.flags.owndata:
        return compute()
    key = id(array)
    found = _known.get(key)
    if found is None or found[0]() is not array:
        found = _known[key] = weakref.ref(array, lambda _: _known.pop(key, None)), {}
    if what not in found[1]:
        found[1][what] = compute()
    return found[1][what]
