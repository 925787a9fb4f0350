"""Bytes that came from a network, read within their bounds."""

from __future__ import annotations

from udpkit.facts.text import in_one_line

LONGEST_QUOTE = 80
"""Characters of a server's own words that a line shows."""


class NotAnAnswer(Exception):
    """These bytes are no answer of the protocol that is being read, or an answer to somebody else."""


class Cursor:
    """Reads forward through bytes that nobody vouches for; every method raises NotAnAnswer at most."""

    __slots__ = ("_at", "_data")

    def __init__(self, data_untrusted: bytes) -> None:
        self._data = data_untrusted
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        insist(0 <= count <= self.left)
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        return self.take(self.left)

    def number(self, octets: int) -> int:
        """The next bytes as an unsigned number, most significant byte first."""
        return int.from_bytes(self.take(octets), "big")

    def expect(self, data: bytes) -> None:
        """The next bytes must be these."""
        insist(self.take(len(data)) == data)

    def until(self, end: bytes) -> bytes:
        """The bytes before the next `end`, which is passed over."""
        found = self._data.find(end, self._at)
        insist(found >= 0)
        data = self.take(found - self._at)
        self.take(len(end))
        return data


def insist(condition: bool) -> None:
    """Raise NotAnAnswer unless the condition holds."""
    if not condition:
        raise NotAnAnswer


def quoted(words_untrusted: bytes) -> str:
    """A server's own words in quotes: in one line, nothing in them that could move a cursor, not too long."""
    text = words_untrusted[: 4 * LONGEST_QUOTE].decode(errors="replace").strip()
    cut = text if len(text) <= LONGEST_QUOTE else text[: LONGEST_QUOTE - 1] + "…"
    return f'"{in_one_line(cut)}"'


def named(names: dict[int, str], number: int) -> str:
    """What a number of the protocol is called, or the number itself."""
    return names.get(number, str(number))
