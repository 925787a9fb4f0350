"""Text that comes from outside, made safe to show."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor or change a terminal; line ends stay."""
    return "".join(
        character if character.isprintable() or character == "\n" else ascii(character)[1:-1]
        for character in text
    )
