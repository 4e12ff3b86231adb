"""Names come from model files that nobody vouches for: whatever they hold, they are text on the page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from harness.report.page import TEMPLATES, write_report

if TYPE_CHECKING:
    from tests.pages import Node
    from tests.report.conftest import Make, Read, Samples

NAMES = [
    "</script><script>alert(1)</script>",
    "</title></style></svg><img src=x onerror=alert(1)>",
    '" onload="alert(1)" x=\'',
    "'><a href='javascript:alert(1)'>",
    "{{ 7 * 7 }}{% raw %}",
    "${alert(1)}`\\u003cb\\u003e",
    "<!--",
    "]]>&lt;b&gt;&#60;",
    "a\u202egnp.exe\u2066\u0000\x1b[31m\ud800\n\r\u2028",
    "テンソル/名前 🙂 é",
    "x" * 100_000,
    "",
]


def everything_named(name: str, samples: Samples) -> dict[str, object]:
    """A record with this name wherever a name can be."""
    suspect = samples.culprit(2, op=name, output=name, cause=name, signature=name, note=name, reproducer=name)
    suspect["impact"] = [samples.impact(name)]
    suspect["remedies"] = [{"name": name, "ok": True}]
    result = samples.localization(
        outputs=[samples.output(name)], culprits=[suspect], explained=[samples.impact(name)], notes=[name]
    )
    return samples.record(
        result=result,
        provenance=name,
        error=name,
        model={"path": f"{name}/{name}.tflite", "sha256": name, "ops": 9},
        device={"name": name, "kind": "android", "runtime": name, "gpu": name},
        options={"accelerator": "gpu", "precision": name, "inputs": name, "signature": name, "timeout_s": 1},
        scene={
            "photo": name,
            "label": name,
            "masks": {"reference": name, "device": name},
            "story": [{"key": "compare", "title": name, "sentences": [name], "commands": [name]}],
        },
    )


def shape(page: Node) -> list[tuple[str, tuple[str, ...]]]:
    """What a browser acts upon: elements and the names of their attributes."""
    return [(node.tag, tuple(sorted(node.attrs))) for node in page.walk() if node.tag != "wbr"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("status", ["done", "failed"])
def test_a_hostile_name_adds_no_element_and_no_attribute(
    name: str, status: str, make: Make, read: Read, samples: Samples
) -> None:
    def page(word: str) -> Node:
        ops = [samples.op(0), samples.op(1, op=word, output=word), samples.op(2, "culprit", op=word, output=word)]
        record = everything_named(word, samples) | {"status": status}
        return read(make(record, ops=ops, log=word.encode("utf-8", "replace").decode()))

    hostile = page(name)
    assert [tag for tag, _ in shape(hostile) if tag in ("script", "style", "title", "svg", "img")] == [
        tag for tag, _ in shape(page("harmless")) if tag in ("script", "style", "title", "svg", "img")
    ]
    assert not [
        a for node in hostile.walk() for a in node.attrs if a.startswith("on") or a in ("src", "srcdoc", "style")
    ]
    assert {link.attrs["href"][0] for link in hostile.all("a")} == {"#"}


@pytest.mark.parametrize("name", [n for n in NAMES if n.isprintable() and 0 < len(n) < 100])
def test_a_hostile_name_is_shown_as_it_is(name: str, make: Make, read: Read, samples: Samples) -> None:
    page = read(make(ops=[samples.op(0, op=name, output=name)]))
    assert page.one("tr", id="row-0").all("td")[0].text == name


def test_characters_that_hide_or_reorder_are_written_out(make: Make, read: Read, samples: Samples) -> None:
    page = read(make(ops=[samples.op(0, op="safe\u202egnp\x1b[2J")]))
    assert page.one("tr", id="row-0").all("td")[0].text == "safe\\u202egnp\\x1b[2J"


def test_a_name_of_a_megabyte_leaves_the_page_small(make: Make, samples: Samples) -> None:
    long = "n" * 1_000_000
    row = samples.op(0, "culprit", op=long[:100_000], output=long[:100_000])
    named = everything_named(long, samples)
    page = write_report(make({k: named[k] for k in ("schema", "command", "status", "result")}, ops=[row]))
    assert page.stat().st_size < 100_000


def test_the_pages_policy_lets_no_script_run_but_its_own(make: Make, read: Read) -> None:
    page = read(make())
    (policy,) = [m.attrs["content"] for m in page.all("meta") if m.attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert len(page.all("script")) == 1


def test_nothing_is_loaded_from_anywhere(make: Make, read: Read) -> None:
    page = read(make())
    for node in page.walk():
        assert "src" not in node.attrs
        for name in ("href", "xlink:href", "action", "data", "poster"):
            assert node.attrs.get(name, "#").startswith(("#", "data:image/"))
    source = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.iterdir())
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|fetch\(|import\(|XMLHttpRequest|innerHTML", source)


def test_no_value_is_placed_in_a_script_or_a_style() -> None:
    for name in ("script.js.j2", "style.css.j2"):
        assert not re.search(r"\{\{|\{%", (TEMPLATES / name).read_text(encoding="utf-8"))


def test_escaping_is_never_switched_off() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in TEMPLATES.iterdir())
    assert not re.search(r"\|\s*safe|autoescape|Markup", source)
