from __future__ import annotations

import math

import pytest

from harness.report import figures


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.5, "0.500"),
        (0.7283010482788086, "0.728"),
        (39.92, "39.9"),
        (335.02, "335"),
        (999.6, "1,000"),
        (8609, "8,609"),
        (2.54e6, "2.54e6"),
        (1.9e-4, "1.90e\N{MINUS SIGN}4"),
        (-1.45, "\N{MINUS SIGN}1.45"),
        (math.inf, "∞"),
        (-math.inf, "\N{MINUS SIGN}∞"),
        (math.nan, "NaN"),
    ],
)
def test_a_figure_has_three_digits(value: float | None, shown: str) -> None:
    assert figures.figure(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (1.0, "1"), (0.9999999, "0.999999"), (0.998133, "0.998133"), (0.0, "0"), (math.nan, "NaN")],
)
def test_a_cosine_is_one_only_when_it_is_one(value: float | None, shown: str) -> None:
    assert figures.share(value) == shown


def test_shares_side_by_side_have_the_digits_that_tell_them_from_one() -> None:
    assert figures.shares(0.97195, 0.97211) == ["0.972", "0.972"]
    assert figures.shares(0.999991, 0.98) == ["0.9999910", "0.9800000"]
    assert figures.shares(1.0, 1.0) == ["1", "1"]


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.0, "0"), (335.02, "335×"), (2.68, "2.68×"), (math.inf, "∞"), (math.nan, "NaN")]
)
def test_a_ratio_is_a_multiple(value: float | None, shown: str) -> None:
    assert figures.times(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "–"), (0, "0 ns"), (950, "950 ns"), (106_689, "107 µs"), (5_647_421, "5.65 ms"), (4.2e9, "4.20 s")],
)
def test_a_duration_chooses_its_unit(value: float | None, shown: str) -> None:
    assert figures.duration(value) == shown


def test_a_range_of_no_finite_element_is_nothing() -> None:
    assert figures.interval((math.inf, -math.inf)) == "–"
    assert figures.interval(()) == "–"
    assert figures.interval((-1.5, 2.25)) == "−1.50 … 2.25"


def test_a_short_name_drops_packages_fused_names_and_the_common_root() -> None:
    name = "lab.net.Decoder/lab.net.Block_0/torch.nn.modules.linear.Linear_k;1;;lab.net.Decoder/other"
    assert figures.short_name(name) == "Decoder/Block_0/Linear_k;1 …"
    assert figures.short_name(name, root="Decoder") == "Block_0/Linear_k;1 …"
    assert figures.short_name("layers.0.weight/v1.5") == "layers.0.weight/v1.5"


def test_a_long_name_keeps_its_head_and_its_tail() -> None:
    shown = figures.short_name("begin" + "x" * 500 + "end", longest=30)
    assert len(shown) == 30
    assert shown.startswith("begin") and shown.endswith("end") and "…" in shown


def test_the_common_root_is_that_of_the_names_that_have_scopes() -> None:
    assert figures.common_root(["m.Net/a.B_0/x", "m.Net/a.B_1/x", "logits"]) == "Net"
    assert figures.common_root(["m.Net/x"]) == ""
    assert figures.common_root(["A/x", "B/x"]) == ""
    assert figures.common_root([]) == ""
