"""Numbers and names as a reader sees them.

Figures keep a form that sorts by its leading number, since the page sorts by what it shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile

from harness.core.visible import best_at_one, visible

NOTHING = "–"
# Packages before a class name, as scopes of converted PyTorch modules have them.
_PACKAGES = re.compile(r"^(?:[a-z_][a-z0-9_]*\.)+(?=[A-Z])")


def figure(value: float | None) -> str:
    """Three significant digits: `0.728`, `2.54e6`, `8,609`; `∞` and `NaN` in words."""
    if value is None:
        return NOTHING
    special = _special(value)
    if special:
        return special
    size = abs(value)
    if size == 0:
        return "0"
    if 1e-3 <= size < 999.5:
        text = f"{value:#.3g}".rstrip(".")
    elif 999.5 <= size < 1e5:
        text = f"{value:,.0f}"
    else:
        mantissa, _, exponent = f"{value:.2e}".partition("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "\N{MINUS SIGN}")


def count(value: float | None) -> str:
    """A whole number: `8,609`."""
    return NOTHING if value is None else f"{value:,.0f}"


def times(value: float | None) -> str:
    """A ratio: `335×`."""
    text = figure(value)
    return text if value is None or not math.isfinite(value) or value == 0 else f"{text}×"


def share(value: float | None, digits: int = 6) -> str:
    """A figure that is best at 1, such as a cosine: 1 only when it is 1."""
    if value is None:
        return NOTHING
    special = _special(value)
    if special:
        return special
    text = f"{value:.0f}" if value in (0, 1) else best_at_one(value, digits)
    return text.replace("-", "\N{MINUS SIGN}")


def shares(*values: float) -> list[str]:
    """Figures that are best at 1, side by side, with as many digits as tell the nearest one from 1."""
    gaps = [1 - value for value in values if value < 1]
    digits = 3 if not gaps else max(3, min(7, math.ceil(-math.log10(min(gaps))) + 1))
    return [share(value, digits) for value in values]


def duration(nanoseconds: float | None) -> str:
    """`3.72 s`, `318 ms`, `107 µs`; `∞` and `NaN` in words."""
    if nanoseconds is None:
        return NOTHING
    if special := _special(nanoseconds):
        return special
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if nanoseconds >= 0.9995 * size:
            return f"{figure(nanoseconds / size)} {unit}"
    return f"{nanoseconds:.0f} ns"


def interval(bounds: Sequence[float]) -> str:
    """`−1.45 … 1.53`; nothing when no element was finite."""
    if len(bounds) != 2 or bounds[0] > bounds[1]:
        return NOTHING
    return f"{figure(bounds[0])} … {figure(bounds[1])}"


def shape(sizes: Sequence[int]) -> str:
    """`8×8×16`; `scalar` without axes."""
    return "×".join(map(str, sizes)) or "scalar"


def name(text: str, longest: int = 600) -> str:
    """A name, visible throughout and no longer than fits: that of a hostile model may be a megabyte."""
    plain = visible(text[: longest + 1])
    return plain if len(plain) <= longest else f"{plain[: longest - 1]}…"


def short_name(text: str, root: str = "", longest: int = 64) -> str:
    """A tensor name without the Python packages in it, without the names fused into it, and below `root`.

    `a.b.Decoder/a.b.Block_0/torch.nn.Linear_k;1;;…` becomes `Decoder/Block_0/Linear_k;1 …`.
    """
    first, _, fused = name(text).partition(";;")
    parts = [_PACKAGES.sub("", part) for part in first.split("/")]
    short = "/".join(parts)
    if root and short.startswith(f"{root}/"):
        short = short[len(root) + 1 :]
    if len(short) > longest:
        short = f"{short[: longest // 3]}…{short[-(longest - longest // 3 - 1) :]}"
    return f"{short} …" if fused else short


def common_root(names: Iterable[str]) -> str:
    """The scopes that all scoped names have in common, where there are at least two of them."""
    scopes = [short_name(text, longest=1 << 20).split("/")[:-1] for text in names]
    scoped = [scope for scope in scopes if scope]
    levels = takewhile(lambda level: len(set(level)) == 1, zip(*scoped, strict=False))
    return "/".join(level[0] for level in levels) if len(scoped) > 1 else ""


def _special(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "\N{MINUS SIGN}∞"
    return ""
