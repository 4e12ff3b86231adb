"""The harness's commands bound to one device, as a test or a script wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from harness.api.audit import audit_command
from harness.api.compare import compare_command
from harness.api.localize import localize_command
from harness.api.opening import open_model
from harness.api.session import ModelRequest
from harness.core.arrays import Array
from harness.core.choices import Accelerator, Backend, Fallback, Precision, Priority, Storage
from harness.core.errors import UsageError
from harness.core.job import Options
from harness.core.private import make_folder, owner_only
from harness.devices.android.device import PhoneOptions
from harness.devices.registry import open_device
from harness.graph.inputs import check_inputs, random_inputs
from harness.graph.model import Model
from harness.graph.ops.audit import Audit
from harness.latency.bench import Benched, BenchRequest, bench
from harness.latency.measure import QUICK, Plan, Subject
from harness.latency.record import Cell
from harness.localize.base.comparison import ModelComparison
from harness.localize.base.remarks import failure_words
from harness.localize.base.result import Localization
from harness.numerics.usefulness import Limits

Shapes = Mapping[str, Sequence[int]]

_WORDS = {
    "accelerator": get_args(Accelerator),
    "precision": get_args(Precision),
    "backend": get_args(Backend),
    "storage": get_args(Storage),
    "priority": get_args(Priority),
    "fallback": get_args(Fallback),
}


def options_of(words: Mapping[str, str]) -> Options:
    """How a job is run, by the names of `Options`. Raises UsageError for a name or a word that is none."""
    known = Options.__dataclass_fields__
    for name, word in words.items():
        if name not in known:
            raise UsageError(f"There is no argument {name!r}.", f"Options of a run are {', '.join(sorted(known))}.")
        if word not in _WORDS.get(name, (word,)):
            raise UsageError(f"{name}={word!r} is none of {', '.join(_WORDS[name])}.", "Choose one of them.")
    return Options(**words)  # type: ignore[arg-type]


@dataclass(frozen=True)
class OnDevice:
    """The commands of the harness on one device, for models on disk or in memory. Run folders land under `out`."""

    name: str
    out: Path
    timeout: float
    phone: PhoneOptions = field(default_factory=PhoneOptions)
    _models: dict[str, Path] = field(default_factory=dict)

    @owner_only()
    def compare(
        self,
        model: Model | Path | str,
        inputs: Mapping[str, Array] | None = None,
        *,
        shapes: Shapes | None = None,
        runs: int = 2,
        min_cosine: float | None = None,
        atol: float | None = None,
        rtol: float | None = None,
        min_iou: float | None = None,
        **options: str,
    ) -> ModelComparison:
        """The model's outputs against the host CPU's. `options` are `accelerator` and `precision`; `shapes` those of
        inputs, by name, that shall not be run as the file has them; `runs` how often the untouched model runs at
        least. `min_cosine`, `atol` and `rtol` (as numpy.allclose has them) and `min_iou` are limits of your own, which
        outputs have to keep whatever float16 explains.

        Raises:
            UsageError: a limit is none: not a number, negative, or a cosine or an IoU over 1.
        """
        limits = Limits(min_cosine, min_iou, atol, rtol)
        return compare_command(self._request(model, inputs, options, shapes, limits), runs=runs)[0]

    @owner_only()
    def localize(
        self,
        model: Model | Path | str,
        inputs: Mapping[str, Array] | None = None,
        *,
        explain: bool = False,
        shapes: Shapes | None = None,
        runs: int = 2,
        min_cosine: float | None = None,
        atol: float | None = None,
        rtol: float | None = None,
        min_iou: float | None = None,
        **options: str,
    ) -> Localization:
        """Which ops break the model; with `explain` also why, what shows it, and what mends it. Limits as for
        `compare`."""
        request = self._request(model, inputs, options, shapes, Limits(min_cosine, min_iou, atol, rtol))
        return localize_command(request, explain=explain, runs=runs)[0]

    def assert_right(
        self, model: Model | Path | str, inputs: Mapping[str, Array] | None = None, **choices: Any
    ) -> None:
        """For tests: nothing where the model passes, and else an AssertionError that names the outputs, the ops that
        break them, their figures with the limits, and the report. `choices` as for `localize`.

        Raises:
            AssertionError: an output fails, or it is not known which op does it.
        """
        __tracebackhide__ = True
        answer = self.localize(model, inputs, **choices)
        if answer.status != "pass":
            raise AssertionError(failure_words(answer, self.name))

    @owner_only()
    def bench(
        self,
        model: Model | Path | str,
        inputs: Mapping[str, Array] | None = None,
        *,
        plan: Plan = QUICK,
        shapes: Shapes | None = None,
        **options: str,
    ) -> Benched:
        """The model's latency, judged and kept as `harness bench` keeps it. An invalid result is a result: ask it.

        Raises:
            UsageError: the model or its inputs are not what can be measured.
            DeviceError: the device is not there or does not complete.
        """
        path = self._path(model)
        loaded = open_model(path, shapes=shapes).model
        graph = loaded.graph()
        given = random_inputs(graph, 0) if inputs is None else check_inputs(dict(inputs), graph)
        chosen = options_of(options)
        cell = Cell(
            str(path), loaded.sha256, self.name, chosen.accelerator, chosen.precision, chosen.backend, chosen.threads
        )
        said = "random, seed 0" if inputs is None else "given by the caller"
        trial = BenchRequest((Subject(cell, loaded, given, chosen),), plan, self.out, said)
        ((found,),) = bench(trial, lambda name: open_device(name, phone=self.phone))
        return found

    @owner_only()
    def audit(self, model: Model | Path | str, *, shapes: Shapes | None = None) -> Audit:
        """What is in the model, and what this device's GPU refuses of it."""
        return audit_command(self._path(model), None, self.name, self.timeout, shapes=shapes)

    def _request(
        self,
        model: Model | Path | str,
        inputs: Mapping[str, Array] | None,
        options: dict[str, str],
        shapes: Shapes | None,
        limits: Limits,
    ) -> ModelRequest:
        return ModelRequest(
            self._path(model),
            self.name,
            options_of(options),
            given=None if inputs is None else dict(inputs),
            out=self.out,
            timeout=self.timeout,
            phone=self.phone,
            shapes={name: tuple(shape) for name, shape in (shapes or {}).items()},
            limits=limits,
        )

    def _path(self, model: Model | Path | str) -> Path:
        if not isinstance(model, Model):
            return Path(model)
        digest = model.sha256
        if digest not in self._models:
            make_folder(self.out)
            path = self.out / f"{digest[:16]}.tflite"
            path.write_bytes(model.to_bytes())
            self._models[digest] = path
        return self._models[digest]
