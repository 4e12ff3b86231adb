"""What every page is made with: templates that escape each value, and the filters that write figures and names."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.report import figures

_FILTERS = (
    figures.figure,
    figures.count,
    figures.times,
    figures.share,
    figures.duration,
    figures.interval,
    figures.shape,
    figures.visible,
    figures.name,
    figures.short_name,
)


def environment(*folders: Path) -> Environment:
    """Templates of these folders, the first ones first."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {convert.__name__: convert for convert in _FILTERS}
    made.globals["version"] = __version__
    return made


def inline(made: Environment, template: str) -> tuple[Markup, str]:
    """The text of a script or style that takes no values, and the source expression that lets it through the page's
    policy."""
    text = made.get_template(template).render()
    digest = b64encode(sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Markup(text), f"'sha256-{digest}'"
