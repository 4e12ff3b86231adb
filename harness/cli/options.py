"""The options that `run`, `compare`, `dump`, `localize` and `bisect-runtime` share, declared once and turned into a
`ModelRequest`; and those that all of them but `run` share, which judges nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial, wraps
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from harness.core.choices import Fallback, Precision
from harness.core.errors import UsageError

if TYPE_CHECKING:
    from harness.api.session import ModelRequest
    from harness.core.progress import Progress
    from harness.numerics.usefulness import Limits

T = TypeVar("T")

DeviceOption = Annotated[str, typer.Option("--device", help="host, web, either @RELEASE, a phone, or planted:NAME.")]
DevicesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        show_default="host",
        help="host, web, either @RELEASE, a phone, or planted:NAME; `compare` and `localize` take several.",
    ),
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where run folders go.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, progress on stderr.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, max=86400, help="Seconds until a job is killed.")]
SignatureOption = Annotated[str | None, typer.Option("--signature", help="Which signature; default the first.")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1,224,224,3", help="An input's shape, where not the file's; repeatable."),
]
RunsOption = Annotated[
    int, typer.Option("--runs", min=2, max=1000, help="Runs of the untouched model, to see how often it is wrong.")
]
MoreModels = Annotated[
    list[Path] | None, typer.Argument(metavar="MODEL", help="Further models, with the same options.")
]
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite file.")]


@dataclass(frozen=True)
class Words:
    """The shared options as they were given."""

    templates: tuple[Callable[..., Any], ...]
    given: tuple[dict[str, Any], ...]

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device that they name, each once."""
        return tuple(dict.fromkeys(self.given[0]["device"] or ["host"]))

    def request(self) -> ModelRequest:
        """What they say, for a command that asks one device. Raises UsageError for words that contradict each other."""
        if len(self.devices) > 1:
            raise UsageError(
                f"This command asks one device, not {len(self.devices)} ({', '.join(self.devices)}).",
                "Give one --device; `compare`, `localize` and `bench` take several.",
            )
        return self.first_request()

    def first_request(self) -> ModelRequest:
        """The same for the first of the devices. Raises UsageError for words that contradict each other."""
        made = [template(**given) for template, given in zip(self.templates, self.given, strict=True)]
        request: ModelRequest = made[0] if len(made) == 1 else replace(made[0], limits=made[1])
        return request

    def each(
        self, more: Sequence[Path] | None, work: Callable[[ModelRequest, Progress], T]
    ) -> list[tuple[str, Callable[[Progress], T]]]:
        """The work on the model that they name, and on more."""
        first = self.first_request()
        requests = [first, *(replace(first, model=path) for path in more or ())]
        return [(str(request.model), partial(work, request)) for request in requests]


def _template(
    model: ModelArgument,
    device: DevicesOption = None,
    accelerator: Annotated[
        Literal["cpu", "gpu", "npu"], typer.Option("--accelerator", help="What runs the model.")
    ] = "gpu",
    precision: Annotated[Precision, typer.Option("--precision", help="How the accelerator computes.")] = "default",
    fallback: Annotated[
        Fallback,
        typer.Option("--fallback", help="cpu: what the GPU does not take runs on the CPU, as apps may ship it."),
    ] = "none",
    inputs: Annotated[
        Path | None, typer.Option("--inputs", metavar="FILE.npz", help="One array for each input.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="For random inputs, without --inputs.")] = 0,
    out: OutOption = Path("results"),
    timeout: TimeoutOption = 600.0,
    signature: SignatureOption = None,
    shape: ShapeOption = None,
    apk: Annotated[
        Path | None, typer.Option("--apk", metavar="FILE", help="For a phone: a prebuilt app, instead of Gradle's.")
    ] = None,
    tools: Annotated[
        Path | None,
        typer.Option("--tools", metavar="DIR", help="For a phone: LiteRT's run_model and its libraries, and no app."),
    ] = None,
    cool_down: Annotated[
        float,
        typer.Option("--cool-down", metavar="S", min=0, max=86400, help="For a phone: longest wait till it is cool."),
    ] = 0.0,
) -> ModelRequest:
    from harness.api.session import ModelRequest
    from harness.core.job import Options
    from harness.devices.android.device import PhoneOptions

    if fallback == "cpu" and accelerator != "gpu":
        raise UsageError(f"--fallback cpu goes with --accelerator gpu, not {accelerator}.", "Leave --fallback out.")
    options = Options(accelerator, precision, fallback=fallback)
    phone = PhoneOptions(apk, cool_down, tools)
    shapes = shapes_of(shape)
    first = device[0] if device else "host"
    return ModelRequest(model, first, options, inputs, seed, out, timeout, signature, phone=phone, shapes=shapes)


def _limits(
    min_cosine: Annotated[
        float | None, typer.Option("--min-cosine", min=-1, max=1, help="Fail an output whose cosine is lower.")
    ] = None,
    atol: Annotated[
        float | None, typer.Option("--atol", min=0, help="Fail an output as numpy.allclose does; default 1e-8.")
    ] = None,
    rtol: Annotated[
        float | None, typer.Option("--rtol", min=0, help="The same, relative to the exact values; default 1e-5.")
    ] = None,
    min_iou: Annotated[
        float | None, typer.Option("--min-iou", min=0, max=1, help="Fail a mask whose IoU is lower.")
    ] = None,
) -> Limits:
    from harness.numerics.usefulness import Limits

    return Limits(min_cosine, min_iou, atol, rtol)


def shapes_of(words: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """`NAME=1,224,224,3` for each input named. Raises UsageError."""
    shapes: dict[str, tuple[int, ...]] = {}
    for word in words or ():
        name, _, sizes = word.rpartition("=")
        if not name or not re.fullmatch(r"\s*\d{1,9}(\s*[,x]\s*\d{1,9})*\s*", sizes):
            raise UsageError(f"--shape {word!r} is no input with sizes.", "Write it as --shape NAME=1,224,224,3.")
        if name in shapes:
            raise UsageError(f"--shape names input '{name}' twice.", "Give one shape for each input.")
        shapes[name] = tuple(int(size) for size in re.split("[,x]", sizes))
    return shapes


def with_request(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes `Words` first, as one whose parameters are the shared options and the rest."""
    return with_options(command, (_template,), lambda *given: Words((_template,), given))


def with_judged_request(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that judges outputs, with the options for the caller's own limits."""
    return with_options(command, (_template, _limits), lambda *given: Words((_template, _limits), given))


def with_options(
    command: Callable[..., None], templates: Sequence[Callable[..., Any]], made: Callable[..., Any]
) -> Callable[..., None]:
    """A command that takes what `made` makes of the templates' options first, as one whose parameters are those options
    and the rest."""
    shared = [inspect.signature(template).parameters for template in templates]
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = _hints(command)

    @wraps(command)
    def parsed(**words: Any) -> None:
        given = [{name: words.pop(name) for name in names} for names in shared]
        command(made(*given), **words)

    parameters = []
    for template, options in zip(templates, shared, strict=True):
        kinds = _hints(template)
        parameters += [p.replace(annotation=kinds[p.name]) for p in options.values()]
    parameters += [p.replace(annotation=hints[p.name]) for p in own]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    parsed.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    parsed.__annotations__ = {p.name: p.annotation for p in keyword} | {"return": None}
    return parsed


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of its parameters; what it returns is a name for type checkers alone."""
    if isinstance(function, type):
        return get_type_hints(function, include_extras=True)
    bare = FunctionType(function.__code__, function.__globals__)
    bare.__annotations__ = {name: kind for name, kind in function.__annotations__.items() if name != "return"}
    return get_type_hints(bare, include_extras=True)
