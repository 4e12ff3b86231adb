"""One form on one device, judged as `harness compare` judges a model: against the host's CPU, twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.core.arrays import Array
from harness.core.errors import DeviceDied, DeviceRefused, NoReference, UnresolvedError, UsageError
from harness.core.job import Options
from harness.core.run_folder import RunFolder, Side, TensorStore
from harness.dashboard.support.document import Outcome
from harness.devices.base import Device
from harness.devices.host.device import HostDevice
from harness.graph.forms.contexts import Built
from harness.localize.base.case import Case
from harness.localize.base.comparison import ModelComparison, Workbench, compare_model
from harness.localize.base.reference import output_label, run_device
from harness.numerics import fp16
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR

# Of a reason or a sentence that is kept.
_MOST_WORDS = 200


@dataclass(frozen=True)
class Judged:
    """What became of a form in a context."""

    outcome: Outcome
    words: str = ""
    ratio: float | None = None
    unsteady: bool = False


class Judge:
    """Judges models on one device, one after the other. What it needs on the host is started once."""

    def __init__(self, device: Device, options: Options, timeout: float) -> None:
        self.device = device
        self._options = options
        self._timeout = timeout
        self._host = _Reference()

    def close(self) -> None:
        """End the host's process."""
        self._host.close()

    def judge(self, built: Built) -> Judged:
        """The outcome. What fails is asked again, in a new process where the device has one.

        Raises:
            DeviceError: the device is not there, or was lost.
        """
        first = self._once(built)
        if first.outcome in ("pass", "not asked", "refused", "precision"):
            return first
        self.device.stop()
        again = self._once(built)
        return first if again.outcome == first.outcome else replace(first, unsteady=True)

    def _once(self, built: Built) -> Judged:
        case = Case(built.model, built.inputs, self._options, self._timeout)
        bench = Workbench(self.device, self._host, _Unwritten())
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # of what was never written
                first = run_device(self.device, case)  # a refusal is soon told, and needs no reference
                found = compare_model(bench, case, first=first)
        except (NoReference, UsageError, UnresolvedError) as error:
            return Judged("not asked", _short(error.message))
        except DeviceRefused as error:
            return Judged("refused", _short(error.reason))
        except DeviceDied as error:
            return Judged("crash", _short(error.message.partition(": ")[2] or error.message))
        for port in case.graph.outputs:
            if why := useless(bench.run.tensors.get(output_label(port.name), "reference")):
                return Judged("not asked", f"output '{port.name}' says nothing: {why}")
        lost = [_beyond_range(case, found, o.name, bench.run.tensors) for o in found.outputs if not o.explained]
        if lost and all(lost) and not found.differs:
            return Judged("precision", _short(f"beyond float16's range: {'; '.join(lost)}"))
        return _judged(found)


def _beyond_range(case: Case, found: ModelComparison, name: str, store: TensorStore) -> str:
    """How many values of an output leave float16's range and are infinite on the device, as they may be; empty where
    that is not all that is wrong with it. (A CPU's ADD ends at float32's largest value where the sum is infinite.)"""
    exact, actual = store.get(output_label(name), "reference"), found.done.outputs[name]
    if not case.options.half or exact.dtype.kind != "f":
        return ""
    outside = np.abs(exact) > fp16.LARGEST
    as_it_may = np.abs(actual) >= fp16.LARGEST
    if not outside.any() or not (as_it_may & (np.sign(actual) == np.sign(exact)))[outside].all():
        return ""
    held, *ideals = (np.where(outside, 0, values) for values in (exact, *found.ideal[name]))
    factor = LOCAL_FACTOR if name in case.made_by_one_op else FACTOR
    if not case.judge(np.where(outside, 0, actual), ideals, held, factor=factor).ok:
        return ""
    return f"{int(outside.sum())} of {exact.size} values of '{name}'"


def useless(expected: Array) -> str:
    """Why a right output tells nothing; empty where it does. One that is the same everywhere would be matched by what
    was never written, or by one place read for all."""
    if not expected.size:
        return "it has no elements"
    if not expected.any():
        return "all of it is zero"
    if expected.size > 1 and (expected == expected.reshape(-1)[0]).all():
        return "all of it is the same"
    return ""


def _judged(found: ModelComparison) -> Judged:
    if found.ok:
        return Judged("pass")
    worst = max(found.outputs, key=lambda o: (not o.explained, not o.ok, o.judgement.ratio))
    ratio, actual = round(float(worst.judgement.ratio), 3), worst.judgement.actual
    if found.explained:
        return Judged("precision", _short("; ".join(each.words() for each in worst.shortfalls)), ratio)
    words = f"{worst.name}: " if len(found.outputs) > 1 else ""
    if actual.nonfinite_mismatch or actual.nonfinite:
        words += f"{actual.nonfinite + actual.nonfinite_mismatch} of {actual.count} values NaN or infinite on one side"
    else:
        words += f"cosine {actual.cosine:.3f}"
    if found.differs:
        words += f"; in a second run {found.differs} was otherwise"
    return Judged("wrong", _short(words), ratio, bool(found.differs))


def _short(text: str) -> str:
    plain = " ".join(text.split()).rstrip(".")
    return plain if len(plain) <= _MOST_WORDS else plain[: _MOST_WORDS - 1] + "…"


class _Reference(HostDevice):
    """The host's CPU, whose process stays between two questions: its models are small."""

    def stop(self) -> None:
        """It is ended by `close` alone."""

    def close(self) -> None:
        """End the process."""
        HostDevice.stop(self)
        super().close()


class _Memory(TensorStore):
    """A tensor store that writes nothing."""

    def __init__(self) -> None:
        super().__init__(Path())
        self._values: dict[tuple[str, str], Array] = {}

    def put(self, label: str, side: Side, values: Array, name: str) -> None:
        """Keep one tensor."""
        self._values[label, side] = np.asarray(values)

    def get(self, label: str, side: Side) -> Array:
        """The tensor again."""
        return self._values[label, side]

    def has(self, label: str, side: Side) -> bool:
        """Whether it was put."""
        return (label, side) in self._values

    def keep_only(self, labels: Any) -> None:
        """Drop every tensor but these."""
        self._values = {key: values for key, values in self._values.items() if key[0] in labels}


class _Unwritten(RunFolder):
    """A run of which nothing is kept: thousands of them make one document."""

    def __init__(self) -> None:
        super().__init__(Path(), {})
        self.tensors = _Memory()

    def save(self, **fields: Any) -> None:
        """Nothing is written."""
        self.record.update(fields)

    def log(self, text: str) -> None:
        """Nothing is written."""

    def rows(self, name: str, header: Any, rows: Any) -> None:
        """Nothing is written."""
