"""Outputs on several devices: those that give the same result are told together."""

from __future__ import annotations

from itertools import combinations

from harness.report.across.outputs import OutputMeeting, groups, sentences


def met(devices: str, *alike: str, same_error: bool = False, output: str = "y") -> list[OutputMeeting]:
    """Each two of the devices; `alike` are those pairs that agree."""
    return [
        OutputMeeting(output, pair, "".join(pair) in alike, "", 0.5, same_error and "".join(pair) in alike)
        for pair in combinations(devices, 2)
    ]


def test_a_group_is_of_devices_that_all_agree_with_each_other() -> None:
    assert groups(met("abcd", "ab", "cd"), "y") == [["a", "b"], ["c", "d"]]
    # b agrees with both, a and c do not agree: no chain makes a group.
    assert groups(met("abc", "ab", "bc"), "y") == [["a", "b"], ["c"]]
    assert groups(met("ab", "ab"), "another") == []


def test_wrong_and_right_groups_are_told_apart() -> None:
    assert sentences(met("abc", "ab"), {"y": {"a", "b"}}) == ["Output 'y': a and b are wrong by one error; c is right."]
    assert sentences(met("ab"), {"y": {"a"}}) == ["Output 'y': a is wrong; b is right."]
    assert sentences(met("ab"), {"y": {"a", "b"}}) == [
        "Output 'y': a is wrong by an error of its own; b is wrong by an error of its own."
    ]
    assert sentences(met("ab", "ab"), {}) == ["Output 'y': a and b agree within rounding."]
