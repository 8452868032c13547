"""Register bits keep their names and calculate as ints."""

from __future__ import annotations

from enum import IntFlag

from pytcg.hw.bits import register_bits


@register_bits
class Sample(IntFlag):
    """Two bits of a byte."""

    LOW = 0x01
    HIGH = 0x10


def test_complement_keeps_the_bits_above_the_highest_member() -> None:
    assert 0xFFFF_FFFF_FFFF & ~Sample.HIGH == 0xFFFF_FFFF_FFEF


def test_results_are_plain_ints() -> None:
    assert type(Sample.LOW | Sample.HIGH) is int
    assert type(0x11 & Sample.HIGH) is int
    assert type(Sample.HIGH ^ 0xFF) is int


def test_names_stay() -> None:
    assert Sample(0x11) == Sample.LOW | Sample.HIGH
    assert Sample.HIGH.name == "HIGH"
