"""What the site's reference is made of: the command line and the schemas themselves."""

from __future__ import annotations

import json
import re

import pytest

from harness.report import schemas
from scripts import site_hooks
from tests.cli.conftest import ROOT
from tests.documents import check

PAGE = (ROOT / "docs" / "reference" / "documents.md").read_text("utf-8")


def test_every_document_is_in_the_table_with_what_prints_it() -> None:
    assert site_hooks.DOCUMENTS in PAGE
    rows = re.findall(r"^\| `([\w-]+)` \| .+? \| (.*) \| (.*) \|$", site_hooks.documents(), re.MULTILINE)
    assert [name for name, _, _ in rows] == schemas.names()
    assert {name: (printed, written) for name, printed, written in rows}["localize"] == ("`localize`, `demo`", "")
    assert all(printed or written for _, printed, written in rows)


def test_a_placeholder_is_replaced_where_it_is() -> None:
    class Page:
        class file:
            src_uri = "reference/documents.md"

    made = site_hooks.on_page_markdown(PAGE, Page)
    assert site_hooks.DOCUMENTS not in made and "| `run-record` |" in made


def test_the_failure_that_the_page_of_commands_shows_is_one() -> None:
    page = (ROOT / "docs" / "reference" / "commands.md").read_text("utf-8")
    (shown,) = re.findall(r"`(\{.*?\})`", page)
    check("failure", json.loads(shown))
    with pytest.raises(pytest.fail.Exception):
        check("failure", {"schema": 1, "status": "failed"})
