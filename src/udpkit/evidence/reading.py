"""Files of any kind, told apart by their content, read as one case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

from udpkit.evidence.captures import Evidence, UnreadableError, open_evidence, read_captures
from udpkit.evidence.socket_tables import is_sockets, read_socket_text
from udpkit.evidence.strace import read_strace
from udpkit.facts import Case, Conversation, SocketTable, Source, TracedSocket

CAPTURES = {"pcap", "pcapng", "tcpdump"}
"""Kinds that have packets, and are read together."""
LONGEST_TABLE = 64 << 20
"""Bytes of a text of socket tables that are read: some 500,000 rows."""


@dataclass(frozen=True, slots=True)
class Known(Evidence):
    """Evidence whose kind is known: as `Source.kind`."""

    kind: str


def identify(path: str | PathLike[str]) -> Known:
    """Open a file, or standard input for `-`, and tell its kind. Raises UnreadableError."""
    one = open_evidence(path)
    return Known(one.path, one.input, _kind(one))


def read_case(opened: Sequence[Known], progress: Callable[[int], object] | None = None) -> Case:
    """Read files as the evidence of one case.

    Packets of captures are merged by their times; socket tables stay in the order of `opened`. What is behind
    damage is read where that is possible, and `Source.damage` says what was wrong. `progress` is called now
    and then with the number of bytes read so far. Raises UnreadableError.
    """
    sources: dict[int, Source] = {}
    conversations: list[Conversation] = []
    unjudged = 0
    tables: list[SocketTable] = []
    traces: list[TracedSocket] = []
    meter = _Meter(progress)

    for index, one in enumerate(opened):
        if one.kind == "strace":
            sources[index], traced = read_strace(one, source=index, progress=meter.of_next())
            traces += traced
        elif one.kind == "sockets":
            sources[index], found = _read_tables(one, index)
            tables += found
    captures = [index for index, one in enumerate(opened) if one.kind in CAPTURES]
    if captures:
        read, conversations, unjudged = read_captures(
            [opened[index] for index in captures], progress=meter.of_next(), sources=captures, tables=tables
        )
        sources.update(zip(captures, read, strict=True))
    return Case(
        [sources[index] for index in range(len(opened))],
        tables=tables,
        conversations=conversations,
        traces=traces,
        unjudged=unjudged,
    )


class _Meter:
    """Adds up the bytes of inputs that are read one after the other."""

    def __init__(self, progress: Callable[[int], object] | None) -> None:
        self._progress = progress
        self._done = 0

    def of_next(self) -> Callable[[int], object] | None:
        progress, before = self._progress, self._done
        if progress is None:
            return None

        def step(count: int) -> object:
            self._done = before + count
            return progress(self._done)

        return step


def _kind(one: Evidence) -> str:
    if one.input.kind is not None:
        return one.input.kind
    head = one.input.head
    if is_sockets(head.decode(errors="replace")):
        return "sockets"
    if not head:
        raise UnreadableError.about(one.path, "empty")
    raise UnreadableError.about(
        one.path, "neither a capture, nor text of tcpdump, strace, ss, netstat, lsof or /proc/net/udp"
    )


def _read_tables(one: Evidence, index: int) -> tuple[Source, list[SocketTable]]:
    try:
        text = one.input.text(LONGEST_TABLE + 1)
    except OSError as error:
        raise UnreadableError.about(one.path, error) from None
    damage = []
    if len(text) > LONGEST_TABLE:
        text = text[:LONGEST_TABLE]
        damage.append(f"after the first {LONGEST_TABLE >> 20} MiB nothing was read")
    tables = read_socket_text(text, source=index)
    return Source(
        one.path, "sockets", packets=sum(len(table.entries) for table in tables), damage=damage
    ), tables
