"""The ways of writing the decoder: their names, and what is no way."""

from __future__ import annotations

from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.sam2.shared.contract import AXES, CARD, PRESETS, PUBLISHED_V1, RECOMMENDED, SPLIT, VARIANTS, DecoderVariant

V1_NAME = "scaled-rank3-whole-dropped-resize-image"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"layernorm": "fast"}, "There is no 'fast' LayerNorm. Choose 'safe', 'plain' or 'scaled'."),
        ({"attention": "rank5"}, "There is no 'rank5' attention. Choose 'rank3' or 'rank4'."),
        ({"reductions": "long"}, "There is no 'long' way to sum. Choose 'whole', 'split' or 'compensated'."),
        ({"batch": "lost"}, "There is no 'lost' batch dimension. Choose 'kept' or 'dropped'."),
        ({"upsampler": "crop"}, "There is no 'crop' upsampler. Choose 'pad' or 'resize'."),
        ({"prompt": "nowhere"}, "There is no 'nowhere' place for the prompt. Choose 'pixels' or 'image'."),
    ],
)
def test_a_word_that_does_not_exist_is_refused(flags: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        DecoderVariant(**flags)
    assert str(caught.value) == message


def test_there_are_twenty_four_variants_and_the_cards_is_the_first() -> None:
    assert VARIANTS[0] == CARD == DecoderVariant("safe", "rank3", "whole", "kept", "pad", "pixels")
    assert len({str(variant) for variant in VARIANTS}) == len(set(VARIANTS)) == 24
    assert {variant.batch for variant in VARIANTS[:12]} == {"kept"}


def test_the_default_of_each_field_is_its_first_word_and_no_word_belongs_to_two() -> None:
    assert [choices[0] for _, choices in AXES.values()] == [getattr(CARD, axis) for axis in AXES]
    words = [word for _, choices in AXES.values() for word in choices]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        (CARD, "safe-rank3-whole"),
        (DecoderVariant("plain", "rank4", "split", "dropped"), "plain-rank4-split-dropped"),
        (DecoderVariant(upsampler="resize"), "safe-rank3-whole-resize"),
        (PUBLISHED_V1, V1_NAME),
    ],
)
def test_a_name_has_three_words_and_those_that_the_card_does_not_have(variant: DecoderVariant, name: str) -> None:
    assert str(variant) == name


@pytest.mark.parametrize("variant", [*VARIANTS, PUBLISHED_V1], ids=str)
def test_every_variant_is_found_by_its_name(variant: DecoderVariant) -> None:
    assert DecoderVariant.named(str(variant)) == variant


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("card", CARD),
        ("split", SPLIT),
        ("recommended", RECOMMENDED),
        ("published-v1", PUBLISHED_V1),
        ("dropped", DecoderVariant(batch="dropped")),
        ("compensated-plain", DecoderVariant("plain", reductions="compensated")),
        ("kept", CARD),
    ],
)
def test_a_preset_or_the_differing_words_in_any_order_are_a_name(name: str, variant: DecoderVariant) -> None:
    assert DecoderVariant.named(name) == variant


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("fast", "'fast' is no word for it"),
        ("", "'' is no word for it"),
        ("published-v2", "'published' is no word for it"),
        ("safe-plain", "'plain' is a second LayerNorm"),
        ("split-split", "'split' is a second way to sum"),
    ],
)
def test_another_name_is_refused_with_the_word_that_is_wrong(name: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        DecoderVariant.named(name)
    assert str(caught.value).startswith(
        f"There is no decoder variant {name!r}: {problem}. Give {', '.join(PRESETS)}, or"
    )
