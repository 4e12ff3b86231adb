"""When the untouched model ends the process, or does not end: which op does that.

Nothing can be read of a model that does not run, so it is cut into windows, each fed with the reference's values and
run by itself: one that crashes or hangs fails, one that runs does not, whatever it gives. The search is that of
`search`, and names the smallest windows that fail.
"""

from __future__ import annotations

import time
from pathlib import Path

from harness.job import Residency
from harness.localize.baseline import Case
from harness.localize.comparison import Bench
from harness.localize.experiment import Experiments, Specimen
from harness.localize.known import Known
from harness.localize.result import Culprit, Localization, ModelFacts, OpRecord
from harness.localize.search import Answer, Window, find_windows
from harness.localize.specimen import cut_out

MOST_QUESTIONS = 60
# A window is given no longer than this, however long the whole model was given: most that hang do so for ever.
HANG_SECONDS = 60.0


def find_fatal(bench: Bench, case: Case, scratch: Path) -> Localization | None:
    """The ops that crash or hang the device; None when the model does neither (any more).

    Raises:
        DeviceError: the reference does not complete, or the device is lost. StorageError: no room for the reference.
    """
    started, compiles, runs = time.monotonic(), bench.device.compiles, bench.device.runs
    experiments = Experiments(bench.device, bench.host, min(case.timeout, HANG_SECONDS), case.seed)
    bench.progress.stage(f"the untouched model on {bench.device.name} once more", 5.0)
    whole = experiments.observe(Specimen(case.model, case.inputs), case.options)
    if whole.ending not in ("crash", "hang"):
        return None
    bench.progress.stage("reference on the host CPU", 1 + len(case.graph.ops) / 100)
    known = Known.collect(bench.host, case, bench.run.tensors, scratch)
    graph = case.graph
    items = [op.index for op in graph.ops if op.index not in graph.constant_ops]
    endings: dict[Window, str] = {}

    def ask(start: int, stop: int) -> Answer:
        first, last = items[start], items[stop - 1]
        bench.progress.stage(f"op {first}" if first == last else f"ops {first} to {last}", 3.0)
        part = cut_out(case.model, items[start:stop], known.exact)
        if part is None:
            return "unresolved"
        seen = experiments.observe(part.specimen, case.options)
        endings[Window(start, stop)] = seen.ending
        if seen.ending in ("refused", "impossible"):
            return "unresolved"
        return "bad" if seen.ending in ("crash", "hang") else "good"

    found = find_windows(len(items), ask, limit=MOST_QUESTIONS)
    culprits = []
    for window in found.failing:
        last = graph.ops[items[window.stop - 1]]
        made = graph.tensors[last.outputs[0]]
        record = OpRecord(
            index=last.index,
            op=last.custom or last.name,
            first=items[window.start],
            output=made.name,
            tensor=made.index,
            shape=made.shape or (),
            dtype=made.type.lower(),
            verdict="culprit",
            reading="window",
        )
        culprits.append(Culprit(record, endings[window], None, certified=False, isolated=True, note=whole.reason))
    facts = bench.device.facts()
    notes = [f"The untouched model {'crashes' if whole.ending == 'crash' else 'hangs'} the device: {whole.reason}."]
    if found.unresolved:
        notes.append(f"{len(found.unresolved)} stretch(es) of ops could not be resolved on the device.")
    return Localization(
        model=ModelFacts(str(case.model.path or ""), case.model.sha256, len(graph.ops)),
        device={"name": bench.device.name, "kind": bench.device.kind, "runtime": facts.runtime, "gpu": facts.gpu},
        status="culprits" if culprits else "unresolved",
        certified=False,
        outputs=(),
        culprits=tuple(culprits),
        records=tuple(culprit.record for culprit in culprits),
        residency=Residency(False),
        device_compiles=bench.device.compiles - compiles,
        device_runs=bench.device.runs - runs,
        seconds=time.monotonic() - started,
        notes=tuple(notes),
    )
