"""The harness's commands bound to one device, as a test or a script wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast, get_args

from harness.api.audit import audit_command
from harness.api.compare import compare_command
from harness.api.fixing.fix import compared, fix_model
from harness.api.fixing.request import FixRequest
from harness.api.fixing.result import Fixed
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
from harness.devices.web.package import DEFAULT as WEB_RELEASE
from harness.graph.inputs import check_inputs, random_inputs
from harness.graph.model import Model
from harness.graph.ops.audit import Audit
from harness.latency.bench import Benched, BenchRequest, bench
from harness.latency.measure import QUICK, Plan, Subject
from harness.latency.record import Cell
from harness.lint.knowledge.target import target_of
from harness.localize.base.comparison import ModelComparison
from harness.localize.base.remarks import failure_words
from harness.localize.base.result import Localization
from harness.numerics.usefulness import Limits
from harness.report.page import write_report

Shapes = Mapping[str, Sequence[int]]


class Choices(TypedDict, total=False):
    """How a model runs: the fields of `Options`, and the shapes of inputs, by name, that shall not be run as the file
    has them."""

    shapes: Shapes | None
    accelerator: Accelerator
    precision: Precision
    threads: int
    backend: Backend
    storage: Storage
    priority: Priority
    fallback: Fallback


class Judging(Choices, total=False):
    """How a model runs and is judged: `runs` of the untouched model at least (2 unless given), and limits of your own,
    which outputs have to keep whatever float16 explains; `atol` and `rtol` as numpy.allclose has them."""

    runs: int
    min_cosine: float | None
    atol: float | None
    rtol: float | None
    min_iou: float | None


class Localizing(Judging, total=False):
    """The same, and whether to `explain` the culprits (not unless asked for): causes, reproducers, remedies tried."""

    explain: bool


_WORDS = {
    "accelerator": get_args(Accelerator),
    "precision": get_args(Precision),
    "backend": get_args(Backend),
    "storage": get_args(Storage),
    "priority": get_args(Priority),
    "fallback": get_args(Fallback),
}


def options_of(words: Mapping[str, Any]) -> Options:
    """How a job is run, by the names of `Options`. Raises UsageError for a name or a word that is none."""
    known = Options.__dataclass_fields__
    for name, word in words.items():
        if name not in known:
            raise UsageError(f"There is no argument {name!r}.", f"Options of a run are {', '.join(sorted(known))}.")
        if word not in _WORDS.get(name, (word,)):
            raise UsageError(f"{name}={word!r} is none of {', '.join(_WORDS[name])}.", "Choose one of them.")
    return Options(**words)


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
        self, model: Model | Path | str, inputs: Mapping[str, Array] | None = None, **choices: Unpack[Judging]
    ) -> ModelComparison:
        """The model's outputs against the host CPU's.

        Raises:
            UsageError: a choice is none: an unknown word, or a limit that is not a number, negative, or a cosine or an
                IoU over 1.
        """
        asked = cast(dict[str, Any], choices)
        runs = asked.pop("runs", 2)
        return compare_command(self._request(model, inputs, asked), runs=runs)[0]

    @owner_only()
    def localize(
        self, model: Model | Path | str, inputs: Mapping[str, Array] | None = None, **choices: Unpack[Localizing]
    ) -> Localization:
        """Which ops break the model; with `explain` also why, what shows it, and what mends it. Raises as
        `compare`."""
        asked = cast(dict[str, Any], choices)
        explain, runs = asked.pop("explain", False), asked.pop("runs", 2)
        return localize_command(self._request(model, inputs, asked), explain=explain, runs=runs)[0]

    @owner_only()
    def fix(
        self,
        model: Model | Path | str,
        inputs: Mapping[str, Array] | None = None,
        *,
        target: str = "host",
        to: Path | None = None,
        precision: Precision = "default",
        compare: bool = True,
    ) -> Fixed:
        """The model with what `lint` finds in it for a target written anew, as far as that keeps its values: checked on
        the host's CPU and, with `compare`, on this device. `to` is where it is written, else under `out`.

        Raises:
            UsageError: the model, its inputs, the target or the place do not do.
        """
        given = None if inputs is None else dict(inputs)
        chosen = target_of(target, web_release=WEB_RELEASE)
        request = FixRequest(
            self._path(model), chosen, to, given=given, precision=precision, runs=self.out, timeout=self.timeout
        )
        fixed = fix_model(request)
        if fixed.rewritten is None:
            return fixed
        fixed = replace(fixed, path=fixed.path or self._path(fixed.rewritten))
        return compared(fixed, self.name, request) if compare else fixed

    def assert_right(
        self, model: Model | Path | str, inputs: Mapping[str, Array] | None = None, **choices: Unpack[Localizing]
    ) -> None:
        """For tests: nothing where the model passes, and else an AssertionError that names the outputs, the ops that
        break them, their figures with the limits, and the report.

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
        **choices: Unpack[Choices],
    ) -> Benched:
        """The model's latency, judged and kept as `harness bench` keeps it. An invalid result is a result: ask it.

        Raises:
            UsageError: the model or its inputs are not what can be measured.
            DeviceError: the device is not there or does not complete.
        """
        asked = cast(dict[str, Any], choices)
        path = self._path(model)
        loaded = open_model(path, shapes=asked.pop("shapes", None)).model
        graph = loaded.graph()
        given = random_inputs(graph, 0) if inputs is None else check_inputs(dict(inputs), graph)
        chosen = options_of(asked)
        cell = Cell(
            str(path), loaded.sha256, self.name, chosen.accelerator, chosen.precision, chosen.backend, chosen.threads
        )
        said = "random, seed 0" if inputs is None else "given by the caller"
        trial = BenchRequest((Subject(cell, loaded, given, chosen),), plan, self.out, said)
        ((found,),) = bench(trial, lambda name: open_device(name, phone=self.phone))
        write_report(found.folder)
        return found

    @owner_only()
    def audit(self, model: Model | Path | str, *, shapes: Shapes | None = None) -> Audit:
        """What is in the model, and what this device's GPU refuses of it."""
        return audit_command(self._path(model), None, self.name, self.timeout, shapes=shapes)

    def _request(
        self, model: Model | Path | str, inputs: Mapping[str, Array] | None, asked: dict[str, Any]
    ) -> ModelRequest:
        shapes = asked.pop("shapes", None) or {}
        limits = Limits(*(asked.pop(name, None) for name in ("min_cosine", "min_iou", "atol", "rtol")))
        return ModelRequest(
            self._path(model),
            self.name,
            options_of(asked),
            given=None if inputs is None else dict(inputs),
            out=self.out,
            timeout=self.timeout,
            phone=self.phone,
            shapes={name: tuple(shape) for name, shape in shapes.items()},
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
