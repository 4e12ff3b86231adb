"""What a release changed: only between releases that follow each other, and only what is known on both sides."""

from __future__ import annotations

from harness.report.across.releases import OnRelease, changes, family


def test_releases_are_compared_in_their_order_and_not_in_that_of_the_words() -> None:
    tested = [
        OnRelease("2.10.0", "pass", {"ADD #1": "fine"}),
        OnRelease("2.9.1", "fail", {"ADD #1": "culprit"}),
        OnRelease("2.2.0", "fail", {"ADD #1": "culprit"}),
    ]
    assert [each.sentence() for each in changes(tested)] == ["2.9.1 → 2.10.0: fail → pass; mended ADD #1."]


def test_an_op_that_breaks_behind_a_mended_one_is_told_too() -> None:
    tested = [
        OnRelease("2.1.5", "fail", {"ADD #2": "culprit", "PAD #10": "fine", "PAD #3": "inherited"}),
        OnRelease("2.2.0", "fail", {"ADD #2": "fine", "PAD #10": "culprit", "PAD #3": "culprit"}),
    ]
    (change,) = changes(tested)
    assert (change.mended, change.broken) == (("ADD #2",), ("PAD #3", "PAD #10"))
    assert change.sentence() == "2.1.5 → 2.2.0: fail as before; mended ADD #2; broke PAD #3, PAD #10."


def test_an_op_that_was_not_read_is_neither_mended_nor_broken() -> None:
    wrong = {"ADD #2": "culprit"}
    before, after = OnRelease("2.1.5", "fail", wrong), OnRelease("2.2.0", "fail", {"ADD #2": "unread"})  # type: ignore[arg-type]
    assert changes([before, after]) == ()
    # Where the whole model passes, its ops need not be read.
    (change,) = changes([before, OnRelease("2.2.0", "pass")])
    assert change.mended == ("ADD #2",)


def test_what_is_no_release_is_left_out() -> None:
    assert changes([OnRelease("", "fail"), OnRelease("x" * 5000, "pass"), OnRelease("2.1.5", "pass")]) == ()


def test_releases_of_the_host_are_one_device() -> None:
    assert [family(name) for name in ("host", "host@2.1.5", "pixel8a", "pixel8a@farm:5037")] == [
        "host",
        "host",
        "pixel8a",
        "pixel8a@farm:5037",
    ]
