"""Captures, of any size, added up to conversations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath

from udpkit import _native
from udpkit.facts import Conversation, SocketTable, Source
from udpkit.facts.text import in_one_line

STANDARD_INPUT = "-"


class UnreadableError(Exception):
    """Evidence that cannot be read. `str()` is one line that names it."""

    @classmethod
    def about(cls, path: str, reason: OSError | ValueError | str) -> UnreadableError:
        words = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
        return cls(in_one_line(f"{'standard input' if path == STANDARD_INPUT else path}: {words}"))


@dataclass(frozen=True, slots=True)
class Evidence:
    """Something that was opened: its name, and the stream, which can be read once."""

    path: str
    input: _native.Input

    @classmethod
    def of(cls, path: str, data: bytes) -> Evidence:
        """What is in memory already. Raises UnreadableError."""
        return cls(path, _open(path, data))


def open_evidence(path: str | PathLike[str]) -> Evidence:
    """Open a file, or standard input for `-`. Raises UnreadableError."""
    name = fspath(path)
    return Evidence(name, _open(name, 0 if name == STANDARD_INPUT else name))


def read_captures(
    evidence: Sequence[Evidence],
    *,
    progress: Callable[[int], object] | None = None,
    sources: Sequence[int] | None = None,
    tables: Sequence[SocketTable] = (),
) -> tuple[list[Source], list[Conversation], int]:
    """Read captures of one case together.

    Returns the sources in the order given, the conversations in which anything is remarkable, and the number
    of those for which there was no room. `sources`: the index that each has in the case, by default 0, 1, 2
    and so on. `tables`: the case's socket tables; what the peers of connected sockets there said is handed
    out even where nothing in it is remarkable. `progress` is called with the bytes read so far. Raises
    UnreadableError.
    """
    for one in evidence:
        if one.input.kind is None:
            raise UnreadableError.about(one.path, "not a capture")
    peers = {entry.peer for table in tables for entry in table.entries if entry.peer}
    keep = [(peer.address, peer.port) for peer in peers]
    try:
        tallies, conversations, unjudged = _native.read(
            [one.input for one in evidence], progress, sources=sources, keep=keep
        )
    except ValueError as error:
        raise UnreadableError.about(", ".join(one.path for one in evidence), error) from None
    return (
        [_source(one.path, tally) for one, tally in zip(evidence, tallies, strict=True)],
        conversations,
        unjudged,
    )


def _open(path: str, source: str | bytes | int) -> _native.Input:
    try:
        return _native.Input(source)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, a header that is cut
        raise UnreadableError.about(path, error) from None


def _source(path: str, tally: _native.Tally) -> Source:
    return Source(
        path=path,
        kind=tally.kind,
        packets=tally.packets,
        datagrams=tally.datagrams,
        icmp_errors=tally.icmp_errors,
        skipped=tally.packets - tally.datagrams - tally.icmp_errors,
        unread=tally.unread,
        damage=tally.damage,
        last_ns=tally.last_ns,
    )
