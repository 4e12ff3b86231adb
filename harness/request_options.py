"""The options that `run`, `compare`, `dump`, `localize` and `bisect-runtime` share, declared once and turned into a
`Request`; and those that all of them but `run` share, which judges nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from harness.commands import Request
from harness.devices.android import PhoneOptions
from harness.errors import UsageError
from harness.job import Fallback, Options, Precision
from harness.numerics.usefulness import Limits

DeviceOption = Annotated[str, typer.Option("--device", help="host, host@RELEASE, or a phone.")]
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
ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite file.")]


def _template(
    model: ModelArgument,
    device: DeviceOption = "host",
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
    cool_down: Annotated[
        float,
        typer.Option("--cool-down", metavar="S", min=0, max=86400, help="For a phone: wait so long till it is cool."),
    ] = 0.0,
) -> Request:
    if fallback == "cpu" and accelerator != "gpu":
        raise UsageError(f"--fallback cpu goes with --accelerator gpu, not {accelerator}.", "Leave --fallback out.")
    options = Options(accelerator, precision, fallback=fallback)
    phone = PhoneOptions(apk, cool_down)
    shapes = shapes_of(shape)
    return Request(model, device, options, inputs, seed, out, timeout, signature, phone=phone, shapes=shapes)


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
    """A command whose first parameter is a `Request`, as one whose parameters are the shared options and the rest."""
    return _with_options(command, (_template,))


def with_judged_request(command: Callable[..., None]) -> Callable[..., None]:
    """The same for a command that judges outputs, with the options for the caller's own limits."""
    return _with_options(command, (_template, _limits))


def _with_options(command: Callable[..., None], templates: Sequence[Callable[..., Any]]) -> Callable[..., None]:
    shared = [inspect.signature(template).parameters for template in templates]
    own = list(inspect.signature(command).parameters.values())[1:]
    hints = get_type_hints(command, include_extras=True)

    @wraps(command)
    def parsed(**words: Any) -> None:
        made = [
            template(**{name: words.pop(name) for name in names})
            for template, names in zip(templates, shared, strict=True)
        ]
        request: Request = made[0] if len(made) == 1 else replace(made[0], limits=made[1])
        command(request, **words)

    parameters = []
    for template, options in zip(templates, shared, strict=True):
        kinds = get_type_hints(template, include_extras=True)
        parameters += [p.replace(annotation=kinds[p.name]) for p in options.values()]
    parameters += [p.replace(annotation=hints[p.name]) for p in own]
    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    parsed.__signature__ = inspect.Signature(keyword)  # type: ignore[attr-defined]
    parsed.__annotations__ = {p.name: p.annotation for p in keyword} | {"return": None}
    return parsed
