"""The graph around an op as a drawing: the op, what its inputs come from and what reads its results, two ops far.

Ops are boxes in rows, each row below those whose results it reads. A row has so many boxes as a phone shows beside each
other; what is left out is counted in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from harness.core.arrays import OpIndex
from harness.report import figures
from harness.report.drawn.graph import KeptGraph, KeptTensor
from harness.report.tables import OpRow

HOPS = 2
MOST_IN_ROW = 4
# Ops that were judged together are one place in the graph; more of them than this are not drawn one by one.
MOST_CENTRE = 4
_MOST_FED = 3
_WIDE, _BESIDE, _BELOW, _WAY = 162, 10, 28, 12
_NARROW, _MORE = 122, 70
_LOW, _LINE = 27, 15
_HIGH = _LOW + 2 * _LINE
_MARKS = {"culprit": "◆", "inherited": "○", "fine": "●", "unread": "×"}

Kind = Literal["op", "input", "constant", "output", "more", "way"]
Key = tuple[str, int]
"""A box: what it is, and the place of its op or tensor."""
_Rows = Mapping[OpIndex, tuple[int, OpRow]]


@dataclass(frozen=True)
class Box:
    """A box: its corner in pixels, its lines of text, the verdict of its op, and the row of the table of ops with it.
    `here` marks the op that it is all about."""

    kind: Kind
    x: float
    y: float
    title: str
    lines: tuple[str, ...]
    verdict: str = ""
    row: int | None = None
    here: bool = False
    width: int = _WIDE
    height: int = _HIGH

    @property
    def mark(self) -> str:
        """The verdict's shape, which it has on every page."""
        return _MARKS.get(self.verdict, "")

    @property
    def told(self) -> str:
        """The box in one line, for who does not see it."""
        return ", ".join(filter(None, (self.title, self.verdict, *self.lines)))


@dataclass(frozen=True)
class Edge:
    """A tensor's way from one box to another, as the path of a curve."""

    path: str
    culprit: bool = False


@dataclass(frozen=True)
class Around:
    """The drawing, in pixels."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]

    @property
    def told(self) -> str:
        """What there is to see, for who does not."""
        here = [box.title for box in self.boxes if box.here]
        return (
            f"The graph around {' and '.join(here)}: {len(self.boxes)} boxes, from what is read down to what reads it."
        )


@dataclass
class _Plan:
    """Boxes by row, in order, and what goes from which to which."""

    level: dict[Key, int] = field(default_factory=dict)
    links: set[tuple[Key, Key]] = field(default_factory=set)
    hidden: dict[int, int] = field(default_factory=dict)


def around(graph: KeptGraph, first: OpIndex, last: OpIndex, rows: Sequence[OpRow]) -> Around | None:
    """Draw what is around the ops `first` to `last`; None where the graph has no such ops. `rows` are those of the
    page's table of ops, which has their errors."""
    if not 0 <= first <= last < len(graph.ops):
        return None
    centre = range(max(first, last - MOST_CENTRE + 1), last + 1)
    plan = _plan(graph, centre)
    return _draw(graph, plan, frozenset(centre), _by_op(rows))


def _plan(graph: KeptGraph, centre: range) -> _Plan:
    plan = _Plan({("op", op): 0 for op in centre})
    for way in (-1, 1):
        edge: list[OpIndex] = list(centre)
        for hop in range(1, HOPS + 1):
            found = [o for op in edge for o in _next(graph, op, way) if ("op", o) not in plan.level]
            found = list(dict.fromkeys(found))
            kept = found[:MOST_IN_ROW]
            plan.level |= {("op", op): way * hop for op in kept}
            if len(found) > len(kept):
                plan.hidden[way * hop] = len(found) - len(kept)
            edge = kept
    ops, outputs = [place for _, place in plan.level], frozenset(graph.outputs)
    for op in ops:
        fed: list[tuple[Key, Key]] = []
        for t in graph.ops[op].inputs:
            maker = graph.producer.get(t)
            if maker is not None and ("op", maker) in plan.level:
                plan.links.add((("op", maker), ("op", op)))
            elif graph.tensors[t].role == "input" or (graph.tensors[t].role == "constant" and op in centre):
                fed.append((("tensor", t), ("op", op)))
        fed = list(dict.fromkeys(fed))
        plan.links |= set(fed[:_MOST_FED])
        if len(fed) > _MOST_FED:
            above = plan.level["op", op] - 1
            plan.hidden[above] = plan.hidden.get(above, 0) + len(fed) - _MOST_FED
        for t in graph.ops[op].outputs:
            if t in outputs:
                plan.links.add((("op", op), ("output", t)))
    _settle(plan)
    return plan


def _next(graph: KeptGraph, op: OpIndex, way: int) -> Iterable[OpIndex]:
    if way < 0:
        yield from (graph.producer[t] for t in graph.ops[op].inputs if t in graph.producer)
    else:
        for t in graph.ops[op].outputs:
            yield from graph.consumers.get(t, ())


def _settle(plan: _Plan) -> None:
    """Every box below all that it reads: rows are moved down until they are. Tensors stand right above their first
    reader, outputs right below their op."""
    inner = sorted((pair for pair in plan.links if pair[0][0] == pair[1][0] == "op"), key=lambda pair: pair[1][1])
    for _ in range(len(plan.level)):
        moved = False
        for maker, reader in inner:
            if plan.level[reader] <= plan.level[maker]:
                plan.level[reader] = plan.level[maker] + 1
                moved = True
        if not moved:
            break
    for one, other in sorted(plan.links):
        if one[0] == "tensor":
            above = plan.level[other] - 1
            plan.level[one] = min(plan.level.get(one, above), above)
        if other[0] == "output":
            plan.level[other] = plan.level[one] + 1


def _draw(graph: KeptGraph, plan: _Plan, centre: frozenset[OpIndex], rows: _Rows) -> Around:
    ways = {link: _way(plan, link) for link in sorted(plan.links)}
    levels = sorted({*plan.level.values(), *plan.hidden})
    by_level: dict[int, list[Key]] = {level: [] for level in levels}
    for key, level in sorted(plan.level.items(), key=lambda item: (item[0][1], item[0][0])):
        by_level[level].append(key)
    _order(by_level, [pair for way in ways.values() for pair in pairwise(way)])
    for level, count in plan.hidden.items():
        by_level[level].append(("more", count))
    widths = {level: sum(map(_wide, keys)) + (len(keys) - 1) * _BESIDE for level, keys in by_level.items()}
    width = max(widths.values()) + 4
    drawn: dict[Key, Box] = {}
    boxes: list[Box] = []
    y = 2.0
    for level in levels:
        x = (width - widths[level]) / 2
        made = []
        for key in by_level[level]:
            made.append(_box(graph, key, x, y, centre, rows))
            x += _wide(key) + _BESIDE
        tallest = max(box.height for box in made)
        for key, box in zip(by_level[level], made, strict=True):
            drawn[key] = replace(box, height=tallest) if key[0] == "way" else box
        boxes += [box for key, box in zip(by_level[level], made, strict=True) if key[0] != "way"]
        y += tallest + _BELOW
    edges = [
        Edge("".join(_curve(drawn[a], drawn[b]) for a, b in pairwise(way)), link[0][0] == "op" and link[0][1] in centre)
        for link, way in ways.items()
    ]
    return Around(width, y - _BELOW + 2, tuple(boxes), tuple(edges))


def _way(plan: _Plan, link: tuple[Key, Key]) -> list[Key]:
    """The places that a link passes: in each row between its ends one that is kept free for it."""
    one, other = link
    between: list[Key] = []
    for level in range(plan.level[one] + 1, plan.level[other]):
        key = "way", len(plan.level)
        plan.level[key] = level
        between.append(key)
    return [one, *between, other]


def _order(by_level: dict[int, list[Key]], pairs: Sequence[tuple[Key, Key]]) -> None:
    """Each box of a row below the middle of what it reads, then above the middle of what reads it."""
    for down in (True, False, True):
        place: dict[Key, float] = {}
        beside: dict[Key, list[Key]] = {}
        for one, other in pairs:
            beside.setdefault(other if down else one, []).append(one if down else other)
        for level in sorted(by_level, reverse=not down):
            keys = by_level[level]
            middle = {}
            for at, key in enumerate(keys):
                seen = [place[other] for other in beside.get(key, ()) if other in place]
                middle[key] = sum(seen) / len(seen) if seen else (at + 0.5) / len(keys)
            keys.sort(key=middle.__getitem__)
            place |= {key: (at + 0.5) / len(keys) for at, key in enumerate(keys)}


def _wide(key: Key) -> int:
    return {"way": _WAY, "tensor": _NARROW, "output": _NARROW, "more": _MORE}.get(key[0], _WIDE)


def _box(graph: KeptGraph, key: Key, x: float, y: float, centre: frozenset[OpIndex], rows: _Rows) -> Box:
    kind, place = key
    if kind == "way":
        return Box("way", x, y, "", (), width=_WAY)
    if kind == "more":
        return Box("more", x, y, f"{place:,} more", (), width=_MORE, height=_LOW)
    if kind != "op":
        tensor = graph.tensors[place]
        title = {"input": "input", "constant": "constant"}.get(tensor.role, "output") if kind == "tensor" else "output"
        named = () if title == "constant" else (figures.short_name(tensor.name, longest=16),)
        what: Kind = "constant" if title == "constant" else "input" if title == "input" else "output"
        return Box(what, x, y, title, (*named, _form(tensor)), width=_NARROW, height=_HIGH if named else _HIGH - _LINE)
    op = graph.ops[place]
    form = [_form(graph.tensors[t]) for t in op.outputs[:1]]
    more = f" and {len(op.outputs) - 1} more" if len(op.outputs) > 1 else ""
    row, found = rows.get(place, (None, None))
    error = _error(place, found)
    lines = [*(f"#{place} {each}{more}" for each in form), error]
    title = figures.name(op.name, 18)
    verdict = found.verdict if found is not None and found.index == place else ""
    return Box("op", x, y, title, tuple(lines), verdict, row, place in centre, height=_LOW + _LINE * len(lines))


def _form(tensor: KeptTensor) -> str:
    sizes = "shape not static" if tensor.shape is None else figures.shape(tensor.shape)
    return f"{figures.name(sizes, 18)} {figures.name(tensor.type.lower(), 12)}"


def _error(place: OpIndex, row: OpRow | None) -> str:
    """How far off the op is, or why that is not known."""
    if row is None:
        return "not measured"
    if row.index != place:
        return f"judged with #{row.index}"
    if row.verdict == "unread":
        return "not read"
    if row.nonfinite:
        return f"{figures.count(row.nonfinite)} NaN or ∞"
    ratio = f", {figures.times(row.ratio)}" if row.ratio else ""
    return f"error {figures.figure(row.local_max)}{ratio}"


def _by_op(rows: Sequence[OpRow]) -> dict[OpIndex, tuple[int, OpRow]]:
    """The row of each op, by its number: its own, or that of the ops that it was judged with; of several readings of
    one op the worst."""
    worst = ("culprit", "unread", "inherited", "fine")
    found: dict[OpIndex, tuple[int, OpRow]] = {}
    for place, row in enumerate(rows):
        for op in range(max(row.first, row.index - 64), row.index + 1):
            had = found.get(op)
            own = op == row.index
            if had is None or (own, -worst.index(row.verdict)) > (had[1].index == op, -worst.index(had[1].verdict)):
                found[op] = place, row
    return found


def _curve(above: Box, below: Box) -> str:
    x, y = above.x + above.width / 2, above.y + above.height
    # Straight through a row that is kept free.
    begin = f"V{y:g}" if above.kind == "way" else f"M{x:g} {y:g}"
    return begin + _bent(x, y, below.x + below.width / 2, below.y)


def _bent(x: float, y: float, to_x: float, to_y: float) -> str:
    bend = max(12.0, (to_y - y) / 2)
    return f"C{x:g} {y + bend:g} {to_x:g} {to_y - bend:g} {to_x:g} {to_y:g}"
