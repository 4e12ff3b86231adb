"""Colours that can be read, in both schemes."""

from __future__ import annotations

import re

import pytest

from harness.report.page import TEMPLATES
from tests.colours import contrast

STYLE = (TEMPLATES / "style.css.j2").read_text(encoding="utf-8")
SCHEMES = ["light", "dark", "print"]

# Text on what lies behind it; WCAG 2.2 AA asks for 4.5.
TEXT = [
    *[(colour, "page") for colour in ("ink", "quiet", "link", "bad", "good", "open", "inherited", "unread")],
    *[("ink", ground) for ground in ("panel", "bad-soft", "good-soft", "open-soft")],
    *[("quiet", ground) for ground in ("panel", "bad-soft", "good-soft", "open-soft")],
    *[("bad", "bad-soft"), ("good", "good-soft"), ("open", "open-soft"), ("page", "ink")],
    # A row of the table under the pointer.
    *[(colour, "panel") for colour in ("inherited", "fine", "bad", "unread")],
]
# Marks; it asks for 3.
MARKS = [(colour, "page") for colour in ("fine", "inherited", "bad", "unread")]


def colours(scheme: str) -> dict[str, str]:
    found: dict[str, str] = {}
    start = {"light": ":root {", "dark": "prefers-color-scheme: dark", "print": "@media print"}[scheme]
    for at in dict.fromkeys((STYLE.index(":root {"), STYLE.index(start))):
        block = STYLE[at : STYLE.index("}", at)]
        found |= dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,8});", block))
    return found


def test_contrast_is_measured_as_wcag_defines_it() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    known = colours(scheme)
    weak = {(a, b): round(contrast(known[a], known[b]), 2) for a, b in TEXT if contrast(known[a], known[b]) < 4.5}
    assert weak == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_marks_stand_out_from_the_page(scheme: str) -> None:
    known = colours(scheme)
    assert all(contrast(known[a], known[b]) >= 3 for a, b in MARKS)


def test_every_colour_is_set_for_the_dark_scheme_too() -> None:
    at = STYLE.index("prefers-color-scheme: dark")
    dark = set(re.findall(r"--([a-z-]+): #", STYLE[at : STYLE.index("}", at)]))
    assert dark == set(colours("light"))


def test_every_variable_that_is_used_is_defined() -> None:
    assert set(re.findall(r"var\(--([a-z-]+)\)", STYLE)) <= set(re.findall(r"--([a-z-]+):", STYLE))


def test_motion_is_only_for_those_who_did_not_ask_for_less() -> None:
    moving = [m.start() for m in re.finditer(r"scroll-behavior|transition|animation", STYLE)]
    start = STYLE.index("@media (prefers-reduced-motion: no-preference)")
    assert all(start < at < STYLE.index("@media print") for at in moving)
