"""Logs of strace(1)."""

from __future__ import annotations

from collections.abc import Callable

from udpkit import _native
from udpkit.evidence.captures import Evidence
from udpkit.facts import Source, TracedSocket


def read_strace(
    evidence: Evidence, *, source: int, progress: Callable[[int], object] | None = None
) -> tuple[Source, list[TracedSocket]]:
    """Read a log of strace to its end: the UDP sockets in it, and the calls on them.

    Memory is bounded: calls that are alike are added up. `Source.packets` are the lines that were understood,
    `datagrams` what calls received and sent; moments are ordered by line. `source` is the log's index in the
    case; `progress` is called with the bytes read so far. An error while reading is told in `Source.damage`.
    """
    return _native.read_strace(evidence.input, evidence.path, progress, source=source)
