"""Where a device ends: the largest size at which a specimen is right beside the smallest at which it is wrong.

A dispatch, a buffer or a texture beyond what a device takes is not made: nothing is written and nothing is said to the
caller. The specimen is asked again with one of its dimensions made smaller, until two sizes next to each other are
found of which the first is right and the second fails alike. Where the runtime's log has the size asked for and the
largest allowed, their ratio tells where to look, and two questions may be enough; else the stretch between is halved,
by round sizes first: how much a workgroup takes depends on what divides a size, and round ones take the most.

No size is claimed that was not asked. Two more are asked beside the two: a smaller one that is less round, and a larger
one that is rounder; where those do not fit the claim, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from harness.core.errors import HarnessError
from harness.graph.build import GraphBuilder
from harness.graph.fold import in_two_dimensions, too_large
from harness.graph.rebuild import Rebuild
from harness.graph.short_ports import with_short_ports
from harness.localize.base.causes import SMALLEST_LIMIT
from harness.localize.explain.shrink import resized
from harness.localize.probe.excess import Excess
from harness.localize.probe.experiment import Experiments, Observation, OutputComparison, Specimen
from harness.numerics import fp16
from harness.numerics.tolerance import LOCAL_FACTOR

# Halvings of a size of 31 bits to the first right one, and of the stretch between.
MOST_QUESTIONS = 62
# Values that a slice holds, and values in the rounder size above.
_SLICE, _ROUND = 4, 64
# Dimensions that are tried, the largest first.
_MOST_FAMILIES = 2

Ask = Callable[[Specimen], Observation]


@dataclass(frozen=True)
class Limit:
    """`right` and `wrong` are sizes next to each other, both asked, `what` the words behind them. `specimen` is the one
    of size `wrong`. `below`: a smaller size that is wrong too; `above`: a larger one that is right again; `alone`: no
    larger one could be asked; `refused`: what is beyond it is refused, and not wrong."""

    right: int
    wrong: int
    what: str
    specimen: Specimen
    below: int | None = None
    above: int | None = None
    alone: bool = False
    refused: bool = False

    def __str__(self) -> str:
        wrong = "refused" if self.refused else "wrong"
        if self.above is not None or self.alone:
            again = "" if self.above is None else f", right again with {self.above:,}"
            return f"right with {self.right:,} {self.what}, {wrong} with {self.wrong:,}{again}"
        exception = "" if self.below is None else f"; {self.below:,} is {wrong} too"
        return f"right up to {self.right:,} {self.what}, {wrong} from {self.wrong:,}{exception}"


def unwritten(seen: OutputComparison, *, half: bool) -> bool:
    """Whether all that is wrong of an output is zero, as memory is that nothing was written to."""
    rounding = fp16.UNIT_ROUNDOFF if half else fp16.FLOAT32_ROUNDOFF
    explained = max(seen.judgement.expected.max_abs, rounding * seen.judgement.actual.reference_rms)
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(seen.actual.astype(np.float64) - seen.exact) <= LOCAL_FACTOR * explained)
    return bool(off.any()) and not seen.actual[off].any()


def find_limit(
    experiments: Experiments, specimen: Specimen, said: Excess | None, ask: Ask, alike: Callable[[Observation], bool]
) -> Limit | None:
    """The limit that a failing specimen goes beyond; None where no size of it is right, or it is small. `ask` asks the
    device, `alike` tells whether what it saw is the failure in question; `said` are the runtime's words.

    Costs four questions where the words tell the place, else up to twice as many as the size has binary digits.
    """
    for family in list(_families(experiments, specimen))[:_MOST_FAMILIES]:
        found = _LimitSearch(family, ask, alike).limit(said)
        if found is not None:
            return found
    return None


@dataclass(frozen=True)
class _Family:
    """One specimen in many sizes. `sized` gives None where the ops do not go together in a size."""

    size: int
    what: str
    sized: Callable[[int], Specimen | None]


def _families(experiments: Experiments, whole: Specimen) -> Iterator[_Family]:
    specimen, kept = _without_short_ports(whole)
    graph = specimen.model.graph()
    ports = [graph.tensors[port.tensor].shape or () for port in (*graph.inputs, *graph.outputs)]
    for size in sorted({d for shape in ports for d in shape if d > SMALLEST_LIMIT}, reverse=True):
        shape = next(shape for shape in ports if size in shape)
        what = "elements"
        if int(np.prod(shape, dtype=np.int64)) != size:
            others = ["n" if d == size else f"{d:,}" for d in shape]
            what = f"in dimension {shape.index(size)} of [{', '.join(others)}]"

        def sized(n: int, size: int = size) -> Specimen | None:
            made = _reshape(specimen, size, n) or resized(experiments, specimen, size, n)
            return made and replace(made, model=with_short_ports(made.model, kept))

        yield _Family(size, what, sized)


def _without_short_ports(specimen: Specimen) -> tuple[Specimen, frozenset[str]]:
    """The specimen without RESHAPEs that are there for the sake of its outputs alone (`short_ports`), which would not
    follow another size; and the names of the ports that have none."""
    rebuild = Rebuild(specimen.model)
    graph = rebuild.graph
    kept = {port.name for port in graph.inputs}
    for op in graph.ops:
        rebuild.keep(op)
    for port in graph.outputs:
        op = graph.ops[graph.producer[port.tensor]]
        source = graph.tensors[op.inputs[0]].shape if op.name == "RESHAPE" and len(graph.ops) > 1 else None
        if source and too_large(source) and graph.tensors[port.tensor].shape == in_two_dimensions(source):
            rebuild.give_out(port.tensor, op.inputs[0])
        else:
            kept.add(port.name)
    return replace(specimen, model=rebuild.finish()), frozenset(kept)


def _reshape(specimen: Specimen, size: int, n: int) -> Specimen | None:
    """A RESHAPE whose longer side has another size and whose shorter side gives way."""
    graph = specimen.model.graph()
    if [op.name for op in graph.ops] != ["RESHAPE"] or len(graph.inputs) != 1:
        return None
    (source, result) = (graph.tensors[p.tensor].shape or () for p in (*graph.inputs, *graph.outputs))
    at = source if size in source else result
    sizes = [n if d == size else d for d in at]
    apart = [*sizes[:-1], sizes[-1], 1] if len(sizes) < 4 else [int(np.prod(sizes[:-1])), sizes[-1], 1]
    shapes = (sizes, apart) if at is source else (apart, sizes)
    build = GraphBuilder()
    x = build.input("x0", shapes[0], graph.tensors[graph.inputs[0].tensor].dtype)
    build.output(build.reshape(x, shapes[1]), "y0")
    return Specimen(build.build(), {"x0": np.resize(specimen.inputs["x0"], shapes[0])})


@dataclass
class _LimitSearch:
    family: _Family
    ask: Ask
    alike: Callable[[Observation], bool]
    questions: int = 0

    def limit(self, said: Excess | None) -> Limit | None:
        size = self.family.size
        if self._is_right(size) is not False:
            return None  # in this form it does not fail
        bounds = self._where_it_says(said) or self._halved_until_right()
        if bounds is None:
            return None
        right, wrong = self._next_to_each_other(*bounds)
        specimen = self.family.sized(wrong)
        if wrong != right + 1 or wrong <= SMALLEST_LIMIT or specimen is None:
            return None
        found = Limit(right, wrong, self.family.what, specimen)
        if self._is_right(right - _SLICE) is False:
            found = replace(found, below=right - _SLICE)
        rounder = (wrong // _ROUND + 1) * _ROUND
        answer = self._is_right(rounder)
        return replace(found, above=rounder if answer else None, alone=answer is None)

    def _is_right(self, size: int) -> bool | None:
        """None where it cannot be asked, or fails in another way."""
        if self.questions >= MOST_QUESTIONS:
            return None
        try:
            specimen = self.family.sized(size)
        except (HarnessError, ValueError):
            return None
        if specimen is None:
            return None
        self.questions += 1
        seen = self.ask(specimen)
        if seen.ending == "right":
            return True
        return False if self.alike(seen) else None

    def _where_it_says(self, said: Excess | None) -> tuple[int, int] | None:
        if said is None or not said.most:
            return None
        place = self.family.size * said.most // said.asked
        if self._is_right(place) is not True:
            return None
        return (place, place + 1) if self._is_right(place + 1) is False else (place, self.family.size)

    def _halved_until_right(self) -> tuple[int, int] | None:
        wrong = self.family.size
        while wrong > SMALLEST_LIMIT:
            half = wrong // 2
            answer = self._is_right(half)
            if answer is None:
                return None
            if answer:
                return half, wrong
            wrong = half
        return None

    def _next_to_each_other(self, right: int, wrong: int) -> tuple[int, int]:
        while wrong - right > 1:
            # At most half of the stretch, so that its multiple below the middle is above the right size.
            step = 1 << (wrong - right).bit_length() - 2
            middle = (right + wrong) // 2 // step * step
            answer = self._is_right(middle)
            if answer is None:
                break
            right, wrong = (middle, wrong) if answer else (right, middle)
        return right, wrong
