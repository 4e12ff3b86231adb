"""What the site has that the files in docs/ have not: the commands' help, a table of schemas, and links out of docs/ as
names of files."""

from __future__ import annotations

import re
from typing import Any

COMMANDS = "<!-- commands -->"
DOCUMENTS = "<!-- documents -->"
_NOT_RUN = re.compile(r"^ *<!-- not run:.*?-->\n*", re.DOTALL | re.MULTILINE)  # for the tests of the pages' blocks
_OUTSIDE = re.compile(r"\[([^\]]*)\]\((?:\.\./)+([^)]*)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """mkdocs calls this for every page."""
    markdown = _NOT_RUN.sub("", markdown)
    if page.file.src_uri.count("/") == 0:
        # The site has no page for what lies beside docs/ in a clone.
        markdown = _OUTSIDE.sub(lambda link: _named(link[1], link[2]), markdown)
    for place, made in {COMMANDS: commands, DOCUMENTS: documents}.items():
        markdown = markdown.replace(place, made()) if place in markdown else markdown
    return markdown


def _named(text: str, target: str) -> str:
    return f"`{target}`" if text.strip("`") in (target, f"../{target}") else f"{text} (`{target}`)"


def commands() -> str:
    """Every command with its words, from the command line itself."""
    from harness.cli.commands import COMMANDS as TABLE

    parts = []
    for name, entry in TABLE.items():
        loaded = entry.load(name)
        group = getattr(loaded, "commands", None)
        parts.append(f"## harness {name}\n\n{_paragraph(loaded.help or entry.line)}\n")
        if group is None:
            parts.append(_options(loaded))
            parts.append(f"    {entry.example}\n")
        for sub, command in (group or {}).items():
            parts.append(f"### harness {name} {sub}\n\n{_paragraph(command.help or '')}\n\n{_options(command)}")
    return "\n".join(parts)


def documents() -> str:
    """Every document with what prints or writes it, from the schemas themselves."""
    from harness.report.schemas import catalogue

    rows = ["| schema | what the document says | printed by | written as |", "|---|---|---|---|"]
    for entry in catalogue():
        printed, written = (", ".join(f"`{word}`" for word in entry[key]) for key in ("commands", "files"))
        rows.append(f"| `{entry['name']}` | {_paragraph(entry['title'])} | {printed} | {written} |")
    return "\n".join(rows) + "\n"


def _options(command: Any) -> str:
    rows = ["| word | what it does | default |", "|---|---|---|"]
    for parameter in command.params:
        words = " ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            words = f"`{parameter.metavar or parameter.name.upper()}`"
        default = parameter.default
        told = "" if default in (None, False, ()) or callable(default) else f"`{default}`"
        rows.append(f"| {words} | {_paragraph(getattr(parameter, 'help', '') or '')} | {told} |")
    return "\n".join(rows) + "\n"


def _paragraph(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
