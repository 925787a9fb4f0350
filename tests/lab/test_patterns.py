"""Patterns of experiments."""

from udpkit.lab.patterns import fits


def test_a_star_stands_for_a_line_end_too() -> None:
    assert fits("a > b UDP *name*", "a > b UDP \n\x01name\n")
