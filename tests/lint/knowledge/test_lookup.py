"""A culprit is known by its pattern, its looks, and where it was seen: each of the three alone is not enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from device_tests.corpus.fusions import scores_of_two_maps
from device_tests.corpus.kernels import softmax_mask
from device_tests.corpus.ops import convolved, draw
from device_tests.corpus.reported import broadcast_add_8593, layernorm_overflow, rank3_pad_9272
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.lint.knowledge.lookup import Known, Seen, look_up
from harness.lint.knowledge.target import target_of_device
from tests.arrays import normal

ROW_0 = "row 0 of the constant for every row"
CONSTANT = Seen(0, 0, "kernel", ROW_0, explained=True, half=True)


def device(kind: str = "host", runtime: str = "2.3.0", gpu: str = "llvmpipe, Vulkan, software") -> dict[str, str]:
    return {"name": kind, "kind": kind, "runtime": runtime, "gpu": gpu}


HOST = target_of_device(device())


def added(shape: tuple[int, ...] = (4, 8)) -> Model:
    """x plus a constant of its own shape."""
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", shape), graph.constant(normal(shape))), "y")
    return graph.build()


def test_what_fits_in_all_three_is_known() -> None:
    found = look_up(added(), CONSTANT, HOST)
    assert found.entry is not None
    assert found.to_json() == {
        "entry": "low-rank-constant",
        "sentence": "Known: low-rank-constant, LiteRT #8619, in every release asked (2.1.3 to 2.3.0).",
        "issues": ["https://github.com/google-ai-edge/LiteRT/issues/8619"],
        "helps": "Keep the batch dimension, for the whole chain: the other operand as [1x4x8], the constant as "
        "[1x4x8].",
        "remedy": "constants with the batch dimension kept",
    }


def unknown(found: Known) -> str:
    assert found.entry is None and found.helps == ""
    assert found.to_json()["entry"] is None and found.to_json()["remedy"] is None
    return found.sentence


@pytest.mark.parametrize(
    "seen",
    [
        replace(CONSTANT, signature="all zeros"),
        replace(CONSTANT, signature=None),
        replace(CONSTANT, signature=f"{ROW_0}, nearly"),
        replace(CONSTANT, cause="accumulation"),
        replace(CONSTANT, cause="context"),
    ],
)
def test_one_that_looks_otherwise_is_not(seen: Seen) -> None:
    said = unknown(look_up(added(), seen, HOST))
    assert said == "Not known: it has the pattern of low-rank-constant, but its wrong values look otherwise."


def test_one_of_another_pattern_is_not_whatever_its_kind_and_its_looks() -> None:
    assert unknown(look_up(added((1, 4, 8)), CONSTANT, HOST)) == "Not known: no entry of the catalogue has its pattern."


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (device(runtime="2.4.0"), "ai-edge-litert 2.4.0"),
        (device(runtime="2.1.2"), "ai-edge-litert 2.1.2"),
        (device(runtime="of my own"), "a release that is not known"),
        (device("web", "2.5.2"), "web, LiteRT.js 2.5.2"),
        (device("android", "2.3.0", "PowerVR, OpenCL"), "android, LiteRT 2.3.0"),
        (device("planted"), "planted"),
        (device("fridge"), "such a device"),
    ],
)
def test_one_that_was_seen_elsewhere_only_is_not(where: dict[str, str], what: str) -> None:
    said = unknown(look_up(added(), CONSTANT, target_of_device(where)))
    assert said == f"Not known: it has the pattern of low-rank-constant, but that was not seen on {what}."


@pytest.mark.parametrize(
    ("where", "planted"),
    [
        (device("web", "2.5.3"), frozenset[str]()),
        (device("android", "2.3.0", "Mali-G715, OpenCL, driver v1.r44p1"), frozenset[str]()),
        (device("android", "2.3.0", "Adreno (TM) 740, OpenCL"), frozenset[str]()),
        (device("planted"), frozenset({"low-rank-constant"})),
    ],
)
def test_it_is_known_where_it_was_measured_reported_or_planted(where: dict[str, str], planted: frozenset[str]) -> None:
    found = look_up(added(), CONSTANT, target_of_device(where, planted))
    assert found.entry is not None and found.entry.name == "low-rank-constant"
    assert found.sentence.endswith("planted here as it was reported." if planted else f"seen on {_words(where)}.")


def _words(where: dict[str, str]) -> str:
    target = target_of_device(where)
    assert target is not None
    return target.words


def test_what_was_mended_is_known_before_and_not_after() -> None:
    seen = Seen(1, 1, "kernel", None, explained=True, half=True)
    before = look_up(broadcast_add_8593(), seen, target_of_device(device(runtime="2.1.5")))
    assert before.sentence == "Known: mask-on-matmul, LiteRT #8593, in 2.1.3 to 2.1.5, mended in 2.1.6."
    after = look_up(broadcast_add_8593(), seen, HOST)
    assert "was not seen on ai-edge-litert 2.3.0" in unknown(after)


def test_looks_that_nobody_asked_about_do_not_count() -> None:
    seen = Seen(1, 1, "kernel", None, explained=False, half=True)
    assert "was not asked (--no-explain)" in unknown(look_up(rank3_pad_9272(), seen, HOST))
    assert look_up(rank3_pad_9272(), replace(seen, explained=True), HOST).entry is not None


def test_looks_like_nothing_count_only_where_the_pattern_was_measured() -> None:
    """On a phone a report is all there is: without looks that fit it, another fault may be there."""
    graph = GraphBuilder()
    graph.output(graph.unary("TANH", graph.pad(graph.input("x", (4, 50, 64)), [(0, 0), (3, 5), (0, 0)])), "y")
    seen = Seen(0, 0, "kernel", None, explained=True, half=True)
    phone = target_of_device(device("android", "2.3.0", "Mali-G715, OpenCL"))
    assert look_up(graph.build(), seen, HOST).entry is not None
    assert "was not seen on android" in unknown(look_up(graph.build(), seen, phone))


def test_a_convolution_on_mali_that_looks_like_another_fault_is_not_the_one_that_was_reported() -> None:
    """Whether its results reach 5,000 the file does not tell."""
    graph = GraphBuilder()
    graph.output(convolved(graph, graph.input("x", (1, 8, 8, 4)), draw(8, 3, 3, 4)), "y")
    phone = target_of_device(device("android", "2.3.0", "Mali-G715, OpenCL"))
    for looks in ("all zeros", "shifted by 1 along axis 2"):
        seen = Seen(0, 0, "kernel", looks, explained=True, half=True)
        assert look_up(graph.build(), seen, phone).entry is None


def test_what_float16_alone_does_is_not_known_in_float32() -> None:
    looks = "16 NaN of 1024 values, the first at [0, 0, 0]"
    seen = Seen(1, 1, "overflow", looks, explained=True, half=True)
    assert look_up(softmax_mask(), seen, HOST).entry is not None
    assert "right in float32" in unknown(look_up(softmax_mask(), replace(seen, half=False), HOST))


def test_a_pattern_of_many_ops_is_found_in_their_window_and_no_wider_one() -> None:
    seen = Seen(0, 6, "kernel", "SLICE #1 reads 'a' in place of 'b'", explained=True, half=True)
    assert look_up(scores_of_two_maps(), seen, HOST).entry is not None
    assert look_up(scores_of_two_maps(), replace(seen, last=5), HOST).entry is None
    graph = GraphBuilder()
    x = graph.input("x", (4, 8))
    for _ in range(6):
        x = graph.unary("TANH", x)
    x = graph.binary("ADD", x, graph.constant(normal((4, 8))))
    graph.output(graph.unary("ABS", x), "y")
    wide = replace(CONSTANT, first=0, last=7)
    assert "more ops than those" in unknown(look_up(graph.build(), wide, HOST))


def test_without_a_device_that_is_known_nothing_is() -> None:
    said = unknown(look_up(added(), CONSTANT, None))
    assert said.endswith("but that was not seen on such a device.")


def test_a_reduction_over_what_is_no_constant_is_no_trouble() -> None:
    graph = GraphBuilder()
    axes = graph.input("axes", (1,), np.int32)
    graph.output(graph.op("SUM", [graph.input("x", (1, 4, 8)), axes], (4, 8)), "y")
    seen = Seen(0, 0, "kernel", None, explained=True, half=True)
    assert look_up(graph.build(), seen, HOST).entry is None


def test_what_is_not_listed_is_looked_up_all_the_same() -> None:
    """Values decide whether a variance overflows: `lint` says nothing, and a culprit is known."""
    seen = Seen(3, 3, "overflow", "results reach 2.54e+06, beyond float16's 65504", explained=True, half=True)
    found = look_up(layernorm_overflow(), seen, HOST)
    assert found.entry is not None and found.entry.name == "squares-beyond-half"
    assert look_up(layernorm_overflow(), replace(seen, half=False), HOST).entry is None
