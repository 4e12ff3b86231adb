"""A reproducer: a folder that shows a fault to somebody who has never heard of this harness.

model.tflite     the smallest model that still fails
inputs.npz       what it is fed, unless a line of numpy makes that
expected.npz     from the host's plain kernels
actual.npz       from the device, unless the process died
reproduce.py     runs it with ai-edge-litert and numpy; exit code 1 when it fails
reproduce.html   of a fault seen in a browser: all of it in one page, which runs it with LiteRT.js
ISSUE.md         a page ready to be filed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.core.job import Options
from harness.core.run_folder import writing
from harness.core.visible import best_at_one
from harness.graph.model import Graph, Model, Op
from harness.lint.knowledge.lookup import Known
from harness.localize.explain.reproducer_page import PACKAGE, Showing, reproducer_page
from harness.localize.explain.reproducer_page import PAGE as WEB_PAGE
from harness.localize.explain.shrink import Shrunk
from harness.localize.probe.experiment import Observation
from harness.numerics import fp16
from harness.numerics.tolerance import LOCAL_FACTOR
from harness.remedies.cause import Cause

MODEL, INPUTS, EXPECTED, ACTUAL = "model.tflite", "inputs.npz", "expected.npz", "actual.npz"
SCRIPT, PAGE = "reproduce.py", "ISSUE.md"

# One that is never the same shows that by values off by more than this many times what rounding explains.
UNSTEADY_FACTOR = 2.0
UNSTEADY_RUNS = 9
# What the text of a page may take from a model's own names.
_MOST_TEXT = 200
_MOST_SAID = 600


@dataclass(frozen=True)
class Circumstances:
    """What a page says beside the model: where it was seen, what kind of fault it is, what was tried (pairs of what and
    how it ended). `planted`: the fault is one of a planted phone, so that nobody files it; `web`: it was seen in a
    browser, and `runtime` is a release of LiteRT.js. `known`: what the catalogue says of it."""

    cause: Cause
    signature: str | None
    device: str
    gpu: str
    runtime: str
    options: Options
    trials: Sequence[tuple[str, str]] = ()
    remedies: Sequence[tuple[str, str]] = ()
    planted: bool = False
    web: bool = False
    known: Known | None = None


def write_reproducer(
    folder: Path,
    shrunk: Shrunk,
    expected: dict[str, Array],
    seen: Observation,
    about: Circumstances,
    allowed: dict[str, tuple[float, float]] | None = None,
) -> None:
    """Write the folder. `expected` are the exact outputs by name, real numbers where they are quantized; `seen` tells
    how the specimen failed on the device; `allowed`, where it gave no values, what their largest and their RMS error
    may be.

    Raises:
        StorageError: the folder cannot be written.
    """
    specimen = shrunk.specimen
    stored = {name: values for name, values in specimen.inputs.items() if name not in shrunk.recipes}
    graph = specimen.model.graph()
    held_on = {port.name: graph.tensors[port.tensor].grid for port in graph.outputs}
    expected = {n: v if (grid := held_on[n]) is None else grid.nearest(v) for n, v in expected.items()}
    title = _title(graph, seen, about)
    environment = Environment(
        loader=PackageLoader("harness.localize.explain"), undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True, autoescape=False,  # noqa: S701 - neither page nor script is HTML
    )  # fmt: skip
    dies = seen.worst is None
    limits = allowed or _limits(expected, seen)
    script = environment.get_template("reproduce.py.j2").render(
        title=_one_line(title),
        runtime=about.runtime,
        dies=dies,
        stored=bool(stored),
        recipes={name: r.code(specimen.inputs[name].shape) for name, r in shrunk.recipes.items()},
        limits=limits,
        web=about.web,
        beyond=seen.beyond,
        times=UNSTEADY_RUNS,
        unsteady=not seen.repeatable,
        factor=f"{LOCAL_FACTOR if seen.repeatable else UNSTEADY_FACTOR:g}",
        single=not about.options.half,
    )
    page = environment.get_template("issue.md.j2").render(
        title=title,
        summary=_summary(seen, about),
        runtime=about.runtime,
        accelerator=about.options.accelerator.upper(),
        precision="float16" if about.options.half else "float32",
        device=about.device,
        gpu=about.gpu or "unknown",
        how_fed=_how_fed(stored, shrunk),
        ops=[op_line(specimen.model, op.index) for op in graph.ops],
        rows=[_row(each) for each in _figures(seen)],
        signature=about.signature,
        said=_one_line(seen.said.words) if seen.said else "",
        beyond=seen.beyond,
        dies=dies,
        planted=about.planted,
        web=about.web,
        package=PACKAGE,
        known=_known(about.known),
        reports=about.known.entry.issues if about.known and about.known.entry else (),
        trials=[(_cell(what), _cell(how)) for what, how in about.trials],
        remedies=[(_cell(what), _cell(how)) for what, how in about.remedies],
    )
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL).write_bytes(specimen.model.to_bytes())
        if stored:
            np.savez(folder / INPUTS, allow_pickle=False, **stored)
        np.savez(folder / EXPECTED, allow_pickle=False, **expected)
        if not dies:
            np.savez(folder / ACTUAL, allow_pickle=False, **{o.name: o.stored for o in seen.outputs})
        (folder / SCRIPT).write_text(script, encoding="utf-8")
        if about.web:
            shown = _showing(title, seen, about, limits, [op_line(specimen.model, op.index) for op in graph.ops])
            text = reproducer_page(specimen.model, specimen.inputs, expected, shown)
            (folder / WEB_PAGE).write_text(text, encoding="utf-8")
        (folder / PAGE).write_text(page, encoding="utf-8")


def _showing(
    title: str, seen: Observation, about: Circumstances, limits: dict[str, tuple[float, float]], ops: Sequence[str]
) -> Showing:
    return Showing(
        title=title,
        summary=_summary(seen, about),
        release=about.runtime,
        seen_on=[about.gpu or "an unknown GPU", "float16" if about.options.half else "float32"],
        ops=ops,
        limits=limits,
        factor=f"{LOCAL_FACTOR if seen.repeatable else UNSTEADY_FACTOR:g} times what rounding explains",
        options=about.options,
        times=1 if seen.repeatable else UNSTEADY_RUNS,
        asks=seen.worst is None and not seen.beyond,
    )


def op_line(model: Model, index: OpIndex) -> str:
    """`y0[8,50,64] = PAD(x0[8,42,64], const[3,2])`."""
    graph = model.graph()
    op = graph.ops[index]
    results = ", ".join(_named(graph, t) for t in op.outputs)
    return f"{results} = {_kind(op)}({', '.join(_named(graph, t) for t in op.inputs)})"


def _kind(op: Op) -> str:
    """The op's name; that of a custom op may hold anything."""
    return _cell(op.custom) if op.custom else op.name


def _named(graph: Graph, t: TensorIndex) -> str:
    if t < 0:
        return "none"
    tensor = graph.tensors[t]
    ports = {port.tensor: port.name for port in (*graph.inputs, *graph.outputs)}
    name = ports.get(t) or ("const" if tensor.constant else f"t{t}")
    return f"{name}[{','.join(map(str, tensor.shape or ()))}]"


def _limits(expected: dict[str, Array], seen: Observation) -> dict[str, tuple[float, float]]:
    """For each output the largest and the RMS error beyond which it is wrong. Where the process died, nothing is known
    of them, and any finite result will do."""
    if seen.worst is None:
        return dict.fromkeys(expected, (3e38, 3e38))
    roundoff = fp16.UNIT_ROUNDOFF if seen.half else fp16.FLOAT32_ROUNDOFF
    limits = {}
    factor = LOCAL_FACTOR if seen.repeatable else UNSTEADY_FACTOR
    for each in seen.outputs:
        pair = each.judgement.limits(factor, roundoff)
        if each.grid is not None:  # in steps, and the expected values are rounded to it as well
            pair = (pair[0] / each.grid.step + 0.5, pair[1] / each.grid.step + 0.5)
        limits[each.name] = (float(f"{pair[0]:.4g}"), float(f"{pair[1]:.4g}"))
    return limits


def _title(graph: Graph, seen: Observation, about: Circumstances) -> str:
    names = list(dict.fromkeys(map(_kind, graph.ops)))
    what = names[0] if len(names) == 1 else f"A graph of {', '.join(names[:-1])} and {names[-1]}"
    does = about.cause.does
    return f"{what} {does} on the {about.options.accelerator.upper()} ({_one_line(about.gpu or about.device)})"


def _summary(seen: Observation, about: Circumstances) -> str:
    if seen.worst is None:
        if seen.said is not None and seen.beyond:
            return f"The model below goes beyond a limit of the device: {_cell(seen.said.plain)}."
        does = "crashes" if seen.ending == "crash" else "hangs"
        return f"The model below {does} the runtime: {_cell(seen.reason).rstrip('.')}."
    actual = seen.worst.judgement.actual
    if actual.nonfinite:
        return f"{actual.nonfinite} of {actual.count} values are NaN or infinite where the CPU's are finite."
    return (
        f"The largest error is {actual.max_abs:.4g}, on values of RMS {actual.reference_rms:.4g}: "
        f"{seen.ratio:.3g} times what rounding explains. Cosine to the CPU's result: {best_at_one(actual.cosine)}."
    )


def _figures(seen: Observation) -> list[tuple[str, float, float, float, float, int]]:
    found = []
    for each in seen.outputs:
        actual, expected = each.judgement.actual, each.judgement.expected
        row = (each.name, actual.cosine, actual.max_abs, expected.max_abs, each.judgement.ratio, actual.nonfinite)
        found.append(row)
    return found


def _row(figures: tuple[str, float, float, float, float, int]) -> tuple[str, ...]:
    name, cosine, largest, explained, ratio, nonfinite = figures
    times = f"{ratio:.3g}x" if np.isfinite(ratio) else "–"
    return name, best_at_one(cosine), f"{largest:.4g}", f"{explained:.4g}", times, str(nonfinite)


def _known(known: Known | None) -> str:
    """A sentence or two, whatever a model's names hold."""
    return "" if known is None else _one_line(f"{known.sentence} {known.helps}".strip(), _MOST_SAID)


def _how_fed(stored: dict[str, Array], shrunk: Shrunk) -> str:
    if not stored:
        return "made by the script"
    if shrunk.recipes:
        return f"{', '.join(stored)} from `{INPUTS}`, the rest made by the script"
    return f"`{INPUTS}`"


def _one_line(text: str, most: int = _MOST_TEXT) -> str:
    """Text that can neither end a docstring nor a line."""
    return "".join(c if c.isprintable() and c not in '"\\' else " " for c in text)[:most]


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "/")
