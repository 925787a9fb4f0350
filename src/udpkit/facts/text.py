"""Text that comes from outside, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor or change a terminal; line ends stay."""
    return "\n".join(map(in_one_line, text.split("\n")))


def in_one_line(text: str) -> str:
    """The text with everything escaped that does not print, line ends too."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
