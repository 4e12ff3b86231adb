"""Matplotlib drawings as part of a page: SVG that takes its colours and fonts from the page's style.

A drawing uses the colours of `Ink`; in the page they are the style's variables, so that one drawing serves light and
dark. Nothing is left that the page's policy would refuse: inline styles become attributes, and there are no scripts,
no metadata and no addresses but those of the page itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from harness.core.visible import visible

_LINK = "{http://www.w3.org/1999/xlink}href"
# Elements and attributes that a drawing keeps; `style` is taken apart into these.
_ELEMENTS = {"g", "path", "use", "text", "tspan", "defs", "clipPath", "rect", "a"}
_ATTRIBUTES = {
    "d", "x", "y", "width", "height", "transform", "clip-path", "fill", "fill-opacity", "stroke", "stroke-width",
    "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-opacity", "opacity", "font-weight", "text-anchor",
}  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.\d+")


class Ink(Enum):
    """The colours of a drawing. Values are placeholders; each stands for the style's variable of its name."""

    INK = "#010203"
    QUIET = "#020304"
    RULE = "#030405"
    PAGE = "#040506"
    CPU = "#050607"
    GPU = "#060708"
    NPU = "#070809"
    BAD = "#08090a"
    GOOD = "#090a0b"
    UNREAD = "#0a0b0c"

    @property
    def variable(self) -> str:
        """How the page's style names it."""
        return f"var(--{self.name.lower()})"


_VARIABLES = {ink.value: ink.variable for ink in Ink}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "harness",
    "path.simplify": False,
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "text.color": Ink.INK.value,
    "text.parse_math": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": Ink.RULE.value,
    "axes.labelcolor": Ink.QUIET.value,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.formatter.useoffset": False,
    "axes.axisbelow": True,
    "grid.color": Ink.RULE.value,
    "xtick.color": Ink.RULE.value,
    "xtick.labelcolor": Ink.QUIET.value,
    "ytick.color": Ink.RULE.value,
    "ytick.labelcolor": Ink.QUIET.value,
    "ytick.major.size": 0,
}


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of this size, in the style's pixels, with the page's manners while it is drawn."""
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)
        FigureCanvasSVG(figure)
        yield figure


def vector(figure: Figure, prefix: str, label: str) -> Markup:
    """The figure as an inline `<svg>`, named `label` for those who do not see it; inside `drawing` only.

    `prefix`, letters and digits, keeps the ids of several drawings on one page apart. Links keep their address when it
    is one within the page.
    """
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(text.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    for parent in list(root.iter()):
        for child in [c for c in parent if c.tag not in _ELEMENTS]:
            parent.remove(child)
    used = {value.removeprefix("#") for element in root.iter("use") if (value := element.get(_LINK, ""))}
    clips = {element.get("id", "") for element in root.iter("clipPath")}
    for element in list(root.iter())[1:]:
        _tidy(element, prefix, used | clips)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"class": "drawing", "viewBox": box, "role": "img", "aria-label": visible(label)})
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _tidy(element: ElementTree.Element, prefix: str, kept_ids: set[str]) -> None:
    given = dict(element.attrib)
    element.attrib.clear()
    for rule in given.pop("style", "").split(";"):
        key, _, value = rule.partition(":")
        given[key.strip()] = value.strip()
    for key, value in given.items():
        if key in _ATTRIBUTES and not (key == "transform" and value.startswith("rotate(-0 ")):
            element.set(key, _value(key, value, prefix))
    if given.get("id") in kept_ids:
        element.set("id", f"{prefix}-{given['id']}")
    address = given.get(_LINK, "")
    if element.tag == "use":
        element.set("href", f"#{prefix}-{address.removeprefix('#')}")
    elif element.tag == "a" and address.startswith("#"):
        element.set("href", address)
    if element.tag != "text":
        element.text = None
    element.tail = None


def _value(key: str, value: str, prefix: str) -> str:
    if key in ("fill", "stroke"):
        return _VARIABLES.get(value, value)
    if key == "clip-path":
        return value.replace("url(#", f"url(#{prefix}-")
    if key in ("d", "x", "y", "transform"):
        value = _NUMBER.sub(lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), " ".join(value.split()))
    return value
