"""Per-op times from the runtime's own profiler, on the host's CPU, in a process of their own.

What the profiler has a time for is a row, and nothing else is: an op that a delegate took is in the delegate's
operators, under their names, for a delegate fuses, splits and adds ops as it pleases. No time is shared out among ops.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness.core import safe_json
from harness.core.errors import StorageError
from harness.core.signals import signal_name
from harness.devices.captured import captured
from harness.devices.host.log_file import LogFile
from harness.devices.registry import kind_of
from harness.devices.scratch import Scratch
from harness.graph.model import Graph
from harness.latency import profiler_process
from harness.latency.measure import Plan, Subject
from harness.latency.profile_record import Cost, Kind, Profile, ProfileRow, Spread, Unprofiled
from harness.latency.stats import Values, compare_interleaved

ANSWER_BYTES = 64 << 20
LEAST_INFERENCES = 2 * profiler_process.LEAST_ROUNDS * profiler_process.IN_ROUND
"""With the profiler and without, whatever the plan's seconds."""
ENGINES = {"cpu": "CompiledModel with XNNPACK", "reference": "CompiledModel with the built-in kernels"}


@dataclass(frozen=True)
class ProfilerEvent:
    """One timed event of an inference: an op's node by its index in the graph, or a delegate's operator by its own."""

    kind: Literal["op", "delegate"]
    name: str
    index: int
    subgraph: int


def profile(subject: Subject, plan: Plan) -> Profile | Unprofiled:
    """The profiler's figures of a cell, of as many inferences as `plan` has samples, or of fewer when its seconds are
    over, but 24 in any case; why there are none, for whatever keeps them away.

    Raises:
        DeviceError: the release's environment cannot be made.
    """
    cell, accelerator = subject.cell, subject.options.accelerator
    python_of = kind_of(cell.device).profiler_python
    if python_of is None:
        return Unprofiled("The runtime's profiler is read on the host's CPU only.")
    if accelerator not in ENGINES:
        return Unprofiled("The runtime's GPU delegate cannot be profiled: with its profiler on, it fails to run.")
    said = _ask(python_of(cell.device), subject, plan)
    if isinstance(said, str):
        return Unprofiled(f"The runtime's profiler was not read: {said}.")
    try:
        return summarize(said, subject.model.graph(), accelerator)
    except Nonsense as error:
        return Unprofiled(f"The runtime's profiler is not believed: {error}.")
    except (KeyError, TypeError, ValueError) as error:
        return Unprofiled(f"The runtime's profiler gave no answer that can be read ({type(error).__name__}: {error}).")


class Nonsense(Exception):
    """The profiler's figures contradict what is known besides."""


def _ask(python: str, subject: Subject, plan: Plan) -> dict[str, Any] | str:
    """The answer of the process, or why there is none, without a full stop."""
    try:
        with closing(Scratch("harness-profile-")) as scratch:
            return _answer(python, subject, plan, scratch.path)
    except StorageError as error:
        return error.message.rstrip(".")
    except OSError as error:
        return f"its process or its files cannot be made ({error.strerror})"


def _answer(python: str, subject: Subject, plan: Plan, folder: Path) -> dict[str, Any] | str:
    (folder / "model.tflite").write_bytes(subject.model.to_bytes())
    inputs = []
    for number, (name, values) in enumerate(subject.inputs.items()):
        (folder / f"{number}.raw").write_bytes(values.tobytes())
        inputs.append((name, str(folder / f"{number}.raw")))
    plain = subject.options.accelerator == "reference"
    request = {
        "model": str(folder / "model.tflite"),
        "inputs": inputs,
        "threads": subject.options.threads or (os.cpu_count() or 1 if plain else 0),  # as the worker
        "plain": plain,
        "samples": plan.samples,
        "seconds": plan.seconds,
        "timeout": plan.timeout,
    }
    # Isolated: what lies beside the file, or in PYTHONPATH, is not to be found by a release's own Python.
    command = [python, "-I", "-B", str(Path(profiler_process.__file__))]
    (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
    with (
        (folder / "request.json").open("rb") as asked,
        closing(LogFile(folder / "log.txt")) as log,
        log.open() as stderr,
    ):
        done = captured(
            command,
            plan.timeout,
            most=ANSWER_BYTES,
            stdin=asked,
            stderr=stderr,
            cwd=folder,
            own_session=True,  # Ctrl-C is the caller's to handle
        )
        lines = log.since(0).strip().splitlines()
    if done.killed == "time":
        return f"its process gave no answer within {plan.timeout:g} s"
    if done.killed == "size":
        return f"its answer is over {ANSWER_BYTES >> 20} MiB"
    if done.code and done.code < 0:
        return f"its process was ended by {signal_name(-done.code)}"
    if done.code:
        return f"its process ended with exit code {done.code} ({lines[-1] if lines else 'no word'})"
    try:
        said = safe_json.loads(done.output)
    except ValueError as error:
        return f"its answer is no JSON ({error})"
    if not isinstance(said, dict):
        return "its answer is no JSON object"
    return str(said["error"]) if "error" in said else said


def summarize(said: dict[str, Any], graph: Graph, accelerator: str) -> Profile:
    """Rows and figures of an answer of the process.

    Raises:
        Nonsense: the figures contradict the clock, or show a delegate where none was to be. KeyError, TypeError or
            ValueError: not an answer.
    """
    events = [
        ProfilerEvent(kind, str(name), int(index), int(subgraph)) for kind, name, index, subgraph in said["events"]
    ]
    profiled, bare = ([np.asarray(turn, np.float64) / 1e3 for turn in said[s]] for s in ("profiled_ns", "bare_ns"))
    us: Values = np.asarray([inference for turn in said["us"] for inference in turn], np.float64)
    runs, bare_runs = np.concatenate(profiled), np.concatenate(bare)
    if us.shape != (len(runs), len(events)):
        raise ValueError(f"{us.shape} figures of {len(events)} events in {len(runs)} inferences")
    if not np.isfinite(us).all() or (us < 0).any():
        raise ValueError("a time is no time")
    places = rows_of(events, graph)
    if not places:
        raise Nonsense("it timed nothing of the model's main graph")
    if accelerator == "reference" and any(place[0] != "op" for place in places):
        raise Nonsense("a delegate took ops where the built-in kernels were asked for")
    rows = []
    for (kind, name, index, node), which in places.items():
        spread = _spread(us[:, which].sum(axis=1))
        rows.append(ProfileRow(kind, name, index, node, len(which), spread))
    nodes = len({row.node for row in rows if row.node is not None})
    covered: Values = us[:, [at for which in places.values() for at in which]].sum(axis=1)
    # Times are whole microseconds by a clock that was read before the one around the run.
    over = covered - runs > 2 + nodes
    if over.any():
        at = int(np.argmax(covered - runs))
        raise Nonsense(f"its events add up to {covered[at]:.0f} µs in a run of {runs[at]:.0f} µs")
    ratio = compare_interleaved(profiled, bare).ratio
    if ratio is None:
        raise ValueError(f"{len(profiled)} rounds")
    named = {row.index for row in rows if row.kind == "op"}
    return Profile(
        engine=ENGINES[accelerator],
        ops=len(graph.ops),
        delegated=len(graph.ops) - len(named),
        nodes=nodes,
        samples=len(runs),
        rows=tuple(rows),
        profiled=_spread(runs),
        bare=_spread(bare_runs),
        outside=_spread(np.maximum(runs - covered, 0)),
        cost=Cost(ratio.value, ratio.low, ratio.high),
    )


def rows_of(events: Sequence[ProfilerEvent], graph: Graph) -> dict[tuple[Kind, str, int, int | None], list[int]]:
    """For each row, as (kind, name, index, node), the places of its events, in the order they ran.

    Events of other subgraphs run inside an op of the main one, and are in its time. An event is an op of the model only
    where the runtime's index and name both say so. A delegate's operators count up from 0 in each of its nodes.
    """
    found: dict[tuple[Kind, str, int, int | None], list[int]] = {}
    node, last = -1, None
    for place, event in enumerate(events):
        if event.subgraph != 0:
            continue
        if event.kind == "delegate":
            if last is None or event.index <= last:
                node += 1
            last = event.index
            found.setdefault(("delegate", event.name, event.index, node), []).append(place)
            continue
        last = None
        known = graph.ops[event.index] if event.index < len(graph.ops) else None
        if known is not None and event.name in (known.name, known.custom):
            found.setdefault(("op", event.name, event.index, None), []).append(place)
        else:
            node += 1
            found.setdefault(("node", event.name, event.index, node), []).append(place)
    return found


def _spread(values: Values) -> Spread:
    p10, p50, p90 = (float(v) for v in np.percentile(values, (10, 50, 90)))
    return Spread(p50, p10, p90)
