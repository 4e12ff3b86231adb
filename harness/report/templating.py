"""What every page is made with: templates that escape each value, and the filters that write figures and names."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.core.visible import visible
from harness.report import figures

_KEPT = re.compile(r"[^\n\t]+")
_FILTERS = (
    figures.figure,
    figures.count,
    figures.times,
    figures.share,
    figures.duration,
    figures.interval,
    figures.shape,
    visible,
    figures.name,
    figures.short_name,
)


def environment(*folders: Path) -> Environment:
    """Templates of these folders, the first ones first."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        finalize=_inert,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {convert.__name__: convert for convert in _FILTERS}
    made.globals |= {"version": __version__, "policy": policy}
    return made


def _inert(value: Any) -> Any:
    """Every value on its way into a page, lines and tabs kept: whatever filter a template forgot, no character in it
    reorders or hides what surrounds it."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return _KEPT.sub(lambda found: visible(found[0]), value)


def inline(made: Environment, template: str) -> tuple[Markup, str]:
    """The text of a script or style that takes no values, and the source expression that lets it through the page's
    policy."""
    text = made.get_template(template).render()
    digest = b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Markup(text), f"'sha256-{digest}'"


def policy(style: str, *scripts: str, served: bool = False) -> Markup:
    """A page's policy: these source expressions of its style and scripts, pictures that are in it, and nothing else.
    Of one that is served also requests to where it came from, to see whether it changed."""
    more = "; connect-src 'self'" if served else ""
    allowed = f"script-src {' '.join(scripts)}; style-src {style}; img-src data:"
    return Markup(f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'{more}")
