"""`python -m benchmarks peers`: the same planted faults given to this localizer and to three others' ways of searching.

The others are re-implemented from their descriptions, on the same device code and the same model; each judges as its
own documentation says, with its default thresholds:

* `prefix bisection` (google-ai-edge/litert-samples #307, `bisect_gpu_divergence`): cut after op k, compare every tensor
  live at the cut with the CPU, bisect k; a tensor diverges by more than 0.01 + 0.01·max|cpu|, or, where the whole model
  gives NaN or infinity, by these alone. Names the first op.
* `node range` (LiteRT `litert/tools/culprit_finder`, binary search): only a range of nodes is delegated, the rest runs
  on the CPU; find the last start of a range up to the end that fails, then the first end. An output fails by a mean
  absolute difference of 1e-4, or by NaN. Names the range.
* `op by op` (LiteRT `litert/tools/accuracy_debugger`): each op compiled alone for both sides, the device's fed with
  what the device made, the CPU's with what the CPU made; fails by any of max |difference| over 5e-3, mean square over
  1e-5, cosine under 0.99, SNR under 30 dB, PSNR under 35 dB. Names every failing op.

The first two are run once more with this project's verdict in place of their thresholds, so that what is compared is
the search. A hit is exact when the ops named are the faulty ones and no other. On a healthy device any op named is a
false alarm. A device compile is a model given to the device that it did not have compiled. With `--jobs N` the trials
are shared by N processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from harness.core.arrays import Array
from harness.core.run_folder import RunFolder
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.model import Graph, Model
from harness.graph.ops.cuts import cut
from harness.localize.base.case import REFERENCE, Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.host_runs import run_ideal
from harness.localize.find.localizer import localize
from harness.numerics.metrics import compare
from tests.localize.campaign import Campaign, Trial
from tests.localize.planted import Half
from tests.localize.small_decoder import small_decoder

Named = frozenset[int]
Strategy = Callable[["Peer", Half, Case], Named]
Verdict = Callable[["Peer", Case, Model, dict[str, Array], dict[str, Array], dict[str, Array]], bool]


@dataclass
class Peer:
    """What a strategy works with: the host, and every tensor's value on it for one case."""

    campaign: Campaign
    verdict: Verdict
    _values: dict[int, dict[int, Array]] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """The model's."""
        return self.campaign.graph

    def reference(self, case: Case) -> dict[int, Array]:
        """Every float tensor of a case on the host, by number; the model's inputs among them."""
        if case.seed not in self._values:
            tapped, names = surgery.tap(case.model, surgery.tappable(self.graph), "direct")
            job = make_job(tapped, case.inputs, REFERENCE, timeout=60)
            outputs = completed(self.campaign.host, job, "running the reference").outputs
            values = {t: outputs[name] for t, name in names.items()}
            values |= {port.tensor: case.inputs[port.name] for port in self.graph.inputs}
            self._values = {case.seed: values}
        return self._values[case.seed]

    def on_device(self, device: Half, case: Case, model: Model, feeds: dict[str, Array]) -> dict[str, Array]:
        """A model's outputs on the device."""
        return completed(device, make_job(model, feeds, case.options, timeout=60), "a probe").outputs

    def on_host(self, model: Model, feeds: dict[str, Array]) -> dict[str, Array]:
        """The same on the CPU."""
        return completed(self.campaign.host, make_job(model, feeds, REFERENCE, timeout=60), "a probe").outputs

    @property
    def items(self) -> tuple[int, ...]:
        """The ops that a device runs."""
        return tuple(op.index for op in self.graph.ops if op.index not in self.graph.constant_ops)


def ours(peer: Peer, device: Half, case: Case) -> Named:
    """This project's `localize`."""
    with tempfile.TemporaryDirectory() as folder, RunFolder.create(Path(folder), "localize", "m", "half") as run:
        answer = localize(Workbench(device, peer.campaign.host, run), case)
    return frozenset(op for c in answer.culprits for op in range(c.record.first, c.record.index + 1))


def prefix_bisection(peer: Peer, device: Half, case: Case) -> Named:
    """The first op after which what is live differs from the CPU; assumes that what differs goes on to."""
    items, values = peer.items, peer.reference(case)
    whole = peer.on_device(device, case, case.model, case.inputs)
    exact = peer.on_host(case.model, case.inputs)
    if not peer.verdict(peer, case, case.model, case.inputs, whole, exact):
        return frozenset()
    only_finite = any(not np.isfinite(v).all() for v in whole.values())

    def diverges(k: int) -> bool:
        live = cut(peer.graph, items[: k + 1]).results
        model = surgery.extract(case.model, live, (), frozenset(live)).model
        feeds = {surgery.port_name(p.tensor): case.inputs[p.name] for p in peer.graph.inputs}
        feeds = {p.name: feeds[p.name] for p in model.graph().inputs}
        got = peer.on_device(device, case, model, feeds)
        want = {surgery.port_name(t): values[t] for t in live}
        if only_finite:
            return any((np.isfinite(want[n]) & ~np.isfinite(got[n])).any() for n in want)
        return peer.verdict(peer, case, model, feeds, got, want)

    low, high = 0, len(items) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if diverges(middle) else (middle + 1, high)
    return frozenset({items[low]})


def node_range(peer: Peer, device: Half, case: Case) -> Named:
    """The last start of a failing range that ends at the end, then the first end of one that starts there."""
    items, values = peer.items, peer.reference(case)
    count = len(items)

    def fails(start: int, stop: int) -> bool:
        return start < stop and _range_fails(peer, device, case, items[start:stop], values)

    if not fails(0, count):
        return frozenset()
    low, high, start = 0, count - 1, 0
    while low <= high:
        middle = (low + high) // 2
        if fails(middle, count):
            start, low = middle, middle + 1
        else:
            high = middle - 1
    low, high, stop = start, count - 1, count - 1
    while low <= high:
        middle = (low + high) // 2
        if fails(start, middle + 1):
            stop, high = middle, middle - 1
        else:
            low = middle + 1
    return frozenset(items[start : stop + 1])


def _range_fails(peer: Peer, device: Half, case: Case, ops: tuple[int, ...], values: dict[int, Array]) -> bool:
    """Whether an output of the model, or of the range's last op, fails when the device runs the range and the CPU the
    rest: what comes before it is the reference's."""
    graph = peer.graph
    edges = cut(graph, ops)
    last = graph.ops[ops[-1]].outputs[0]
    results = tuple(dict.fromkeys((*edges.results, last)))
    window = surgery.extract(case.model, results, edges.feeds).model
    feeds = {surgery.port_name(t): values[t] for t in edges.feeds}
    feeds = {p.name: feeds[p.name] for p in window.graph().inputs}
    got = peer.on_device(device, case, window, feeds)
    made = {surgery.tensor_of(name): v for name, v in got.items()}
    outputs = {port.tensor for port in graph.outputs}
    rest = tuple(outputs - set(results))
    known = frozenset((*values, *made)) - set(rest)
    behind: dict[str, Array] = {}
    if rest:
        tail = surgery.extract(case.model, rest, _live(graph, rest, known, ops)).model
        feeding = {p.name: (values | made)[surgery.tensor_of(p.name)] for p in tail.graph().inputs}
        behind = peer.on_host(tail, feeding)
    seen = {n: v for n, v in got.items() if surgery.tensor_of(n) in (*outputs, last)} | behind
    want = {name: values[surgery.tensor_of(name)] for name in seen}
    return peer.verdict(peer, case, window, feeds, seen, want)


def _live(graph: Graph, targets: tuple[int, ...], known: frozenset[int], ops: tuple[int, ...]) -> frozenset[int]:
    """Where the rest of the model starts: values of ops before the range's end, the range's own among them."""
    return frozenset(t for t in known if graph.producer.get(t, -1) <= ops[-1])


def op_by_op(peer: Peer, device: Half, case: Case) -> Named:
    """Every op alone, each side fed with its own earlier results."""
    graph, values = peer.graph, peer.reference(case)
    made = {port.tensor: case.inputs[port.name] for port in graph.inputs}
    failing = set()
    for index in peer.items:
        edges = cut(graph, (index,))
        results = graph.ops[index].outputs
        model = surgery.extract(case.model, results, edges.feeds).model
        feeds = {surgery.port_name(t): made[t] for t in edges.feeds}
        got = peer.on_device(device, case, model, {p.name: feeds[p.name] for p in model.graph().inputs})
        for t in results:
            made[t] = got[surgery.port_name(t)]
            if _fails_debugger(made[t], values[t]):
                failing.add(index)
    return frozenset(failing)


def _fails_debugger(actual: Array, exact: Array) -> bool:
    """accuracy_debugger's default thresholds. NaN fails by cosine."""
    if not np.isfinite(actual).all():
        return True
    seen = compare(actual, exact)
    peak = max(map(abs, seen.reference_range))
    mean_square = seen.rms**2
    psnr = np.inf if seen.rms == 0 else 20 * np.log10(max(peak, 1e-300) / seen.rms)
    return bool(seen.max_abs > 5e-3 or mean_square > 1e-5 or seen.cosine < 0.99 or seen.snr_db < 30 or psnr < 35)


def by_scale(
    peer: Peer, case: Case, model: Model, feeds: dict[str, Array], got: dict[str, Array], want: dict[str, Array]
) -> bool:
    """litert-samples #307: worst element over 0.01 + 0.01 of the largest, or NaN or infinity."""
    for name, exact in want.items():
        seen = compare(got[name], exact)
        if seen.nonfinite or seen.max_abs > 1e-2 + 1e-2 * max(map(abs, seen.reference_range)):
            return True
    return False


def by_mean(
    peer: Peer, case: Case, model: Model, feeds: dict[str, Array], got: dict[str, Array], want: dict[str, Array]
) -> bool:
    """culprit_finder: mean absolute difference of at least 1e-4, or NaN."""
    return any(np.isnan(got[name]).any() or compare(got[name], exact).mean_abs >= 1e-4 for name, exact in want.items())


def by_oracle(
    peer: Peer, case: Case, model: Model, feeds: dict[str, Array], got: dict[str, Array], want: dict[str, Array]
) -> bool:
    """This project's verdict on a model's outputs. The ideal device runs what the device ran; outputs that the CPU made
    of its results are held to the whole model's ideal."""
    ideal = run_ideal(case, peer.campaign.host, model, feeds, frozenset(), "the ideal device")
    if missing := [name for name in want if name not in ideal]:
        names = {surgery.port_name(p.tensor): p.name for p in peer.graph.outputs}
        whole = run_ideal(case, peer.campaign.host, case.model, case.inputs, frozenset(), "the ideal device")
        ideal |= {name: whole[names[name]] for name in missing}
    return any(not case.judge(got[n], ideal[n], want[n], by_channel=True).ok for n in want)


STRATEGIES: tuple[tuple[str, Strategy, Verdict], ...] = (
    ("this localizer", ours, by_oracle),
    ("prefix bisection (litert-samples #307)", prefix_bisection, by_scale),
    ("prefix bisection, our verdict", prefix_bisection, by_oracle),
    ("node range (culprit_finder)", node_range, by_mean),
    ("node range, our verdict", node_range, by_oracle),
    ("op by op (accuracy_debugger)", op_by_op, by_oracle),
)

Outcome = Literal["exact", "partly", "wrong", "alarm", "quiet"]


@dataclass(frozen=True)
class Score:
    """One strategy on one trial."""

    kind: str
    outcome: Outcome
    compiles: int
    seconds: float


def score(strategy: Strategy, peer: Peer, trial: Trial) -> Score:
    """Run one strategy on one trial."""
    device = peer.campaign.device(trial)
    case = peer.campaign.case(trial)
    peer.reference(case)  # shared by all, so charged to none
    began = time.perf_counter()
    named = strategy(peer, device, case)
    seconds = time.perf_counter() - began
    truth = trial.ops(peer.graph)
    outcome: Outcome
    if not truth:
        outcome = "alarm" if named else "quiet"
    elif named == truth:
        outcome = "exact"
    else:
        outcome = "partly" if named & truth else "wrong"
    return Score(trial.kind, outcome, device.compiles, seconds)


def trials(campaign: Campaign, given: Any) -> Iterator[Trial]:
    """The faults at every op that do harm, the pairs, the healthy devices; every `step`th of each."""
    singles = list(campaign.at_every_op(every_kind=given.every_kind))[:: given.step]
    yield from (trial for trial in singles if campaign.harms(trial))
    yield from campaign.pairs(given.pairs)
    yield from campaign.healthy(given.healthy)


def table(scores: dict[str, list[Score]]) -> Table:
    """Exact hits, false alarms, compiles and time, one row for each strategy."""
    columns = ("exact, one fault", "exact, two faults", "false alarms", "device compiles", "seconds")
    shown = Table("strategy", *columns, caption="compiles: median (largest), over faulty devices; seconds: median")
    for name, found in scores.items():
        cells = [_share(found, "single", "exact"), _share(found, "pair", "exact"), _share(found, "healthy", "alarm")]
        faulty = [s for s in found if s.kind != "healthy"] or found
        compiles = f"{statistics.median(s.compiles for s in faulty):g} ({max(s.compiles for s in faulty)})"
        shown.add_row(name, *cells, compiles, f"{statistics.median(s.seconds for s in faulty):.1f}")
    return shown


def _share(scores: list[Score], kind: str, outcome: Outcome) -> str:
    of_kind = [s for s in scores if s.kind == kind]
    count = sum(s.outcome == outcome for s in of_kind)
    return f"{count} of {len(of_kind)}" + (f" ({count / len(of_kind):.1%})" if of_kind else "")


def scored(campaign: Campaign, given: Any, console: Console) -> Iterator[tuple[str, Score]]:
    """Every chosen strategy on every trial of this process's share, with the strategy's name."""
    number, count = given.share
    chosen = [(n, s, Peer(campaign, v)) for n, s, v in STRATEGIES[: given.only]]
    choosing = track(trials(campaign, given), "choosing faults that do harm", console=console, transient=True)
    planned = list(enumerate(choosing))[number::count]
    for place, trial in track(planned, "localizing", console=console, transient=True):
        for name, strategy, peer in chosen if place % given.peers_every == 0 else chosen[:1]:
            found = score(strategy, peer, trial)
            yield name, found
            if name == STRATEGIES[0][0] and found.outcome not in ("exact", "quiet"):
                console.print(f"[red]missed[/] {trial.name(campaign.graph)}, inputs of seed {trial.seed}")


def divided(words: list[str], jobs: int) -> Iterator[tuple[str, Score]]:
    """The same from `jobs` processes, each with a share of the trials. What they tell a person goes to stderr."""
    small_decoder()  # converted once, and not by each
    command = [sys.executable, "-m", "benchmarks", "peers", *words, "--share"]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(jobs)]
        shares = []
        for number, file in enumerate(files):
            shares.append(stack.enter_context(subprocess.Popen([*command, f"{number}/{jobs}"], stdout=file)))
            stack.callback(shares[-1].kill)  # before it is waited for; nothing happens to one that has ended
        while None in (ended := [share.poll() for share in shares]) and not any(ended):
            time.sleep(0.5)
        if any(ended):
            raise SystemExit(f"A share of the trials ended with exit code {next(filter(None, ended))}; see above.")
        for file in files:
            file.seek(0)
            for line in file:
                name, fields = json.loads(line)
                yield name, Score(**fields)


def share_of(text: str) -> tuple[int, int]:
    """`I/N`: the Ith of N shares, from 0."""
    number, count = (int(word) for word in text.split("/"))
    if not 0 <= number < count:
        raise ValueError(text)
    return number, count


def count(text: str) -> int:
    """A number from 1 on."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def main(words: list[str]) -> int:
    """The command; 0 when the localizer meets what docs/decisions.md claims of it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--step", type=count, default=1, help="plant at every Nth op only")
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--healthy", type=int, default=50)
    parser.add_argument("--every-kind", action="store_true", help="every kind of fault at each op, not one in rotation")
    parser.add_argument("--only", type=count, default=len(STRATEGIES), help="the first N strategies")
    parser.add_argument("--peers-every", type=count, default=1, help="give the others every Nth of the trials only")
    parser.add_argument("--jobs", type=count, default=1, help="processes that share the trials")
    parser.add_argument("--share", type=share_of, metavar="I/N", help="one share, told as a JSON line for each score")
    given = parser.parse_args(words)
    if given.share:
        for name, found in scored(Campaign(small_decoder()), given, Console(stderr=True)):
            sys.stdout.write(json.dumps([name, asdict(found)]) + "\n")
            sys.stdout.flush()
        return 0
    console = Console(width=None if sys.stdout.isatty() else 140)
    given.share = (0, 1)
    several = given.jobs > 1
    scores: dict[str, list[Score]] = {}
    for name, found in divided(words, given.jobs) if several else scored(Campaign(small_decoder()), given, console):
        scores.setdefault(name, []).append(found)
    console.print(table(scores))
    first = scores[STRATEGIES[0][0]]
    faulty = [s for s in first if s.kind != "healthy"]
    exact = sum(s.outcome == "exact" for s in faulty) / len(faulty)
    alarms, median = sum(s.outcome == "alarm" for s in first), statistics.median(s.compiles for s in faulty)
    met = exact >= 0.99 and not alarms and median <= 3 + 1
    compiles = f"at most 3 compiles and the control (median {median:g})"
    word = "[green]met[/]" if met else "[red]MISSED[/]"
    console.print(f"{word} 99 % exact ({exact:.1%}), no false alarm ({alarms}), {compiles}")
    return 0 if met else 1
