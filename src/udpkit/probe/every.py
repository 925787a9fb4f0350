"""Sockets and clock around a watch: ask at every tick, and tell it what comes."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

from udpkit.probe.watch import Watch
from udpkit.probe.wire import Settings, Wire

BATCH = 64
"""Datagrams sent between two looks at the clock and at what has come."""
BATCHES = 16
"""Taken at most before something else is done: a flood must not keep us from asking."""
LONGEST_POLL = 3600.0


@contextmanager
def open_wires(watch: Watch, settings: Settings) -> Iterator[dict[int, Wire]]:
    """A socket for each version of IP that is asked for; a context manager that closes them.

    Raises OSError if there can be no such socket: a source that is not this host's, no such interface.
    """
    with ExitStack() as stack:
        wires: dict[int, Wire] = {}
        for version in sorted({track.target.address.version for track in watch.tracks}):
            wires[version] = Wire(socket.AF_INET if version == 4 else socket.AF_INET6, settings)
            stack.callback(wires[version].socket.close)
        yield wires


def keep_asking(
    wires: Mapping[int, Wire],
    watch: Watch,
    every: float,
    count: int | None,
    between: Callable[[], float] = lambda: math.inf,
) -> None:
    """Ask every so many seconds, from the same sockets, until `count` ticks are settled; without it for ever.

    Ticks lie at whole multiples of `every` from the first; those that this process slept through are left
    out. `between` is called whenever something may have happened, and returns the time.monotonic() at which
    it wants to be called again.
    """
    poll = select.poll()
    for wire in wires.values():
        poll.register(wire.socket, select.POLLIN)
    start = next_tick = time.monotonic()
    seq = 0
    while True:
        _receive(wires, watch)
        now = time.monotonic()
        watch.expire(now)
        if now >= next_tick:
            seq += 1
            _send(wires, watch, seq)
            next_tick = math.inf if seq == count else start + every * (math.floor((now - start) / every) + 1)
        wake = min(next_tick, watch.deadline)
        if wake == math.inf:
            return
        wait = min(wake, between()) - time.monotonic()
        # In whole milliseconds, rounded up: a wake too early would spin.
        poll.poll(math.ceil(max(0.0, min(wait, LONGEST_POLL)) * 1000))


def _send(wires: Mapping[int, Wire], watch: Watch, seq: int) -> None:
    """Ask every port, and look in between at what has come: an answer's time is that at which it is seen."""
    tracks = watch.tick(seq)
    for start in range(0, len(tracks), BATCH):
        batch = [(track, watch.payload(track)) for track in tracks[start : start + BATCH]]
        probes: dict[int, list[tuple[bytes, tuple[str, int]]]] = {version: [] for version in wires}
        now = time.monotonic()
        for track, payload in batch:
            watch.ask(track, seq, payload, now)
            address, port = track.target.address, track.target.port
            probes[address.version].append((payload.data, (str(address), port)))
        for version, wire in wires.items():
            wire.send(probes[version])
        _receive(wires, watch)


def _receive(wires: Mapping[int, Wire], watch: Watch) -> None:
    """Take what is there, or a good deal of it."""
    for wire in wires.values():
        for _ in range(BATCHES):
            datagrams = wire.socket.recv_many()
            reports = wire.socket.errors()
            now = time.monotonic()
            for datagram in datagrams:
                watch.received(datagram, now)
            for report in reports:
                watch.reported(report, now)
            if not datagrams and not reports:
                break
