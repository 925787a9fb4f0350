"""Probe the ports of many hosts at once: sockets, clock and queues around the sweeps.

One unconnected socket a family with IP_RECVERR sends to every host: so it hears replies from wrong
addresses, and learns from each ICMP error's quote which port it is about (udp_err(), ip_icmp_error()). An
answer that fits no target may be one port's or another's; then the ports without an answer are asked once
more, in groups from sockets of their own.
"""

from __future__ import annotations

import heapq
import math
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import groupby
from random import Random

from udpkit._native import QueuedError
from udpkit.facts import Address, Endpoint
from udpkit.probe.result import Result, State, is_closed, state_of, unscoped
from udpkit.probe.strays import is_ambiguous, is_anothers, only_suspect, silent_of
from udpkit.probe.sweep import NEVER, Port, Sweep
from udpkit.probe.verdict import is_nobody, refused_result, replied_result, silent_result
from udpkit.probe.wire import Host, Settings, Target, Wire
from udpkit.sockets import Datagram
from udpkit.sockets.errors import error_report

COLD_RATE = 10_000
"""Probes a second to hosts that have not refused anything yet, all together."""
NEW_HOSTS, NEW_BURST = 200, 50
"""Hosts a second, after so many at once. An address that nobody has costs several errors of our own kernel,
and that has 1000 a second, 50 at once, for all (net.ipv4.icmp_msgs_per_sec, icmp_msgs_burst)."""
ASKED_FOR = 3.5
"""Seconds: Linux asks a link three times, one second apart (mcast_solicit and retrans_time_ms, arp(7)), and
then says so for each datagram; but for many hosts those errors are too many to be told."""
ASK_AGAIN = 0.1
"""Seconds between two looks at the neighbour tables."""
ALONE = 64
"""Sockets at once, for ports that are asked alone."""
BATCHES = 64
"""Taken at most before something else is done: somebody may send faster than we read."""
MOST_STRANGE = 256
"""Datagrams from elsewhere that are looked at closely, on one socket."""
SPARE, SLICE = 0.02, 1000
"""Seconds without anything to send that are long enough to make so many results that were put off."""


class Probe:
    """The probing of many targets. `run` until it is over; `results` whenever one wants to know."""

    def __init__(self, targets: Sequence[Target], settings: Settings, random: Random | None = None) -> None:
        self._settings = settings
        self._random = random or Random()  # noqa: S311 - nothing secret
        self._targets = list(targets)
        self._wires: list[Wire] = []
        self._poll = select.poll()
        self._heap: list[tuple[float, int, Host]] = []
        self._behind: list[Host] = []
        self._pushed = 0
        self._verdict: Callable[[Result], None] = lambda _: None
        self._free_at = 0.0
        self._next_host_at = 0.0
        self._neighbours: set[Address] = set()
        self._neighbours_at = -NEVER
        self._hosts: list[Host] = []
        self.total = sum(len(target.ports) for target in targets)

    @property
    def done(self) -> int:
        """How many ports need no more probes."""
        return sum(host.sweep.done for host in self._hosts)

    def results(self) -> Iterator[Result]:
        """The verdicts that have been reached, in the order in which the ports were asked for."""
        for host in self._hosts:
            self._catch_up(host)
            for port in host.target.ports:
                if port in host.results:
                    yield host.results[port]

    def run(
        self,
        progress: Callable[[Probe], None] = lambda _: None,
        verdict: Callable[[Result], None] = lambda _: None,
    ) -> None:
        """Probe until every port has a verdict.

        progress: is called every now and then. verdict: with each result, when there is time.

        Raises OSError if there can be no such socket: a source that is not this host's, no such interface.
        """
        try:
            self._hosts = [self._add(target, self._wire_for(target.address)) for target in self._targets]
            self._verdict = verdict
            self._loop(progress)
            self._ask_alone()
        finally:
            for wire in self._wires:
                wire.socket.close()

    # Setting up.

    def _wire_for(self, address: Address) -> Wire:
        """The socket of the address's family; another one if the address has its place there already."""
        family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
        for wire in self._wires:
            if wire.hosts and type(next(iter(wire.hosts))) is type(address) and address not in wire.hosts:
                return wire
        return self._open(family)

    def _open(self, family: socket.AddressFamily) -> Wire:
        wire = Wire(family, self._settings)
        self._wires.append(wire)
        self._poll.register(wire.socket, select.POLLIN)
        return wire

    def _add(self, target: Target, wire: Wire, *, alone: bool = False) -> Host:
        settings = self._settings
        sweep = Sweep(
            target.ports,
            timeout=settings.timeout,
            retries=settings.retries,
            random=self._random,
            canaries=not alone,
        )
        host = Host(target, str(target.address), sweep, wire)
        # Now, since making one may take longer than an answer.
        host.payloads = {number: settings.payload(number) for number in target.ports}
        wire.hosts[target.address] = host
        self._schedule(host, 0.0)
        return host

    # The loop.

    def _schedule(self, host: Host, at: float) -> None:
        if at < host.scheduled and not host.concluded:
            host.scheduled = at
            self._pushed += 1
            heapq.heappush(self._heap, (at, self._pushed, host))

    def _loop(self, progress: Callable[[Probe], None]) -> None:
        while self._heap:
            self._send_due()
            progress(self)
            wait = self._wait()
            if wait > SPARE and self._behind:
                self._catch_up(self._behind[-1], SLICE)
                if not self._behind[-1].refusals:
                    self._behind.pop()
                wait = 0
            # In whole milliseconds, rounded up: a wake too early would spin.
            self._poll.poll(min(int(wait * 1000) + 1, 250) if wait > 0 else 0)
            for wire in self._wires:
                self._receive(wire)

    def _wait(self) -> float:
        """Seconds until something is due."""
        return self._heap[0][0] - time.monotonic() if self._heap else 0

    def _catch_up(self, host: Host, most: int | None = None) -> None:
        """Results of what was refused: put off while there are probes to send."""
        refusals = host.refusals[:most]
        del host.refusals[:most]
        for queued, state, port, at in refusals:
            result = refused_result(host.target.name, error_report(queued), state, port, at)
            host.results[port.number] = result
            self._verdict(result)

    def _send_due(self) -> None:
        now = time.monotonic()
        while self._heap and (self._heap[0][0] <= now or self._heap[0][2].concluded):
            host = heapq.heappop(self._heap)[2]
            if host.scheduled == NEVER or host.concluded:
                continue
            host.scheduled = NEVER
            if host.sweep.finished:
                self._conclude(host)
                continue
            rate = self._settings.rate or (COLD_RATE if host.sweep.cold else None)
            if rate and self._free_at > now:
                self._schedule(host, self._free_at)
                continue
            if not host.sweep.begun:
                if self._next_host_at > now:
                    self._schedule(host, self._next_host_at)
                    continue
                host.begun_at = now
                self._next_host_at = max(self._next_host_at, now - NEW_BURST / NEW_HOSTS) + 1 / NEW_HOSTS
            elif self._is_unknown(host):
                if now - host.begun_at > ASKED_FOR:
                    self._conclude(host)
                else:
                    self._schedule(host, now + ASK_AGAIN)
                continue
            if numbers := host.sweep.due(now):
                if rate:
                    self._free_at = max(self._free_at, now) + len(numbers) / rate
                host.wire.send([self._probe(host, number) for number in numbers])
                self._receive(host.wire)
                now = time.monotonic()
            if (wake := host.sweep.wake()) == NEVER:
                self._conclude(host)
            else:
                self._schedule(host, max(wake, 0.0))

    def _probe(self, host: Host, number: int) -> tuple[bytes, tuple[str, int]]:
        payload = host.payloads.get(number)
        if payload is None:
            payload = host.payloads[number] = self._settings.payload(number)
        return payload.data, (host.called, number)

    # What comes back.

    def _receive(self, wire: Wire) -> None:
        for _ in range(BATCHES):
            datagrams = wire.socket.recv_many()
            reports = wire.socket._queued_errors()
            now = time.monotonic()
            heard = {self._take(wire, datagram, now) for datagram in datagrams}
            heard |= {self._take_report(wire, report, now) for report in reports}
            for host in heard:
                if host:
                    wake = host.sweep.wake()
                    self._schedule(host, 0.0 if wake == NEVER else max(wake, 0.0))
            if not datagrams and not reports:
                return

    def _take(self, wire: Wire, datagram: Datagram, now: float) -> Host | None:
        """Whose answer it is, and what that means."""
        host = wire.hosts.get(datagram.peer.address)
        payload = host.payloads.get(datagram.peer.port) if host else None
        if payload is None or not payload.name(datagram.data):
            wire.strange += 1
            if wire.strange <= MOST_STRANGE:
                if suspect := only_suspect(wire, host, payload, datagram):
                    return self._suspected(*suspect, datagram, now)
                if host and is_anothers(wire, host, datagram):
                    return host  # once more, or too late: it says nothing of who sent it
        if host and payload:
            if not self._answered(host, datagram.peer.port, datagram, now):
                wire.strays += is_ambiguous(wire, payload, datagram)
            return host
        wire.strays += 1
        return None

    def _suspected(self, host: Host, port: Port, datagram: Datagram, now: float) -> Host:
        """Counts at once if it answers the request; else if it comes again when the right one is overdue."""
        payload = host.payloads[port.number]
        target = Endpoint(host.target.address, port.number)
        _, overdue_at = host.doubtful.get(port.number, (None, NEVER))
        if payload.name(datagram.data) or now >= overdue_at:
            self._answered(host, port.number, datagram, now)
            return host
        result = replied_result(host.target.name, target, port, datagram, payload, now)
        host.doubtful.setdefault(port.number, (result, port.last_sent + self._settings.timeout))
        return host

    def _answered(self, host: Host, number: int, datagram: Datagram, now: float) -> bool:
        """Note an answer. Returns whether it is news."""
        if port := host.sweep.replied(number):
            target = Endpoint(host.target.address, number)
            host.results[number] = replied_result(
                host.target.name, target, port, datagram, host.payloads[number], now
            )
        return port is not None

    def _take_report(self, wire: Wire, queued: QueuedError, now: float) -> Host | None:
        """Whose probe it is about, and what that means."""
        target = queued.peer
        host = wire.hosts.get(target.address) if target else None
        offender = queued.offender
        # All but a few are of this kind: what else there is to say of them can wait.
        closed = is_closed(queued.origin, queued.icmp_type, queued.code, offender, target)
        state = State.CLOSED if closed else state_of(error_report(queued))
        if host is None or target is None or state is None:
            return None
        number = target.port
        port = host.sweep.refused(
            number,
            offender,
            now,
            closed=closed,
            unreachable=state is State.UNREACHABLE,
            nobody=state is State.UNREACHABLE and is_nobody(error_report(queued)),
        )
        if port:
            if not host.refusals:
                self._behind.append(host)
            host.refusals.append((queued, state, port, now))
        return host

    def _conclude(self, host: Host) -> None:
        """Verdicts for the ports that stayed silent."""
        self._catch_up(host)
        like = next(reversed(host.results.values())) if host.sweep.blanket else None
        nobody = self._is_unknown(host) and time.monotonic() - host.begun_at > ASKED_FOR
        host.concluded = True
        for port in list(host.sweep.silent):
            if port.number in host.doubtful:
                host.results[port.number] = replace(host.doubtful[port.number][0], sent=port.sent)
                continue
            target = Endpoint(host.target.address, port.number)
            payload = host.payloads.get(port.number) or self._settings.payload(port.number)
            host.results[port.number] = silent_result(
                host.target.name, target, port, payload, host.sweep, like, nobody=nobody
            )

    def _is_unknown(self, host: Host) -> bool:
        """Whether its link is asked for it, and has not answered: what is sent waits in our send buffer."""
        if host.sweep.heard or host.results or host.refusals:
            return False
        now = time.monotonic()
        if now - host.begun_at > 2 * ASKED_FOR:
            return False
        if now - self._neighbours_at > ASK_AGAIN / 2:
            from udpkit.evidence.neighbours import unanswered_neighbours  # it takes a while, and few need it

            self._neighbours, self._neighbours_at = unanswered_neighbours(), now
        return unscoped(host.target.address) in self._neighbours

    # Ports that are asked alone.

    def _ask_alone(self) -> None:
        """Who sent the answers that fit no target? Ask the silent ports again, in ever smaller groups."""
        for wire in list(self._wires):
            suspects = silent_of(wire) if wire.strays else []
            while suspects:
                suspects = self._ask_groups(suspects)

    def _ask_groups(self, suspects: Sequence[tuple[Host, int]]) -> list[tuple[Host, int]]:
        """Ask ports again, each group from a socket of its own. Returns those that are not clear yet."""
        size = math.ceil(len(suspects) / ALONE)
        groups = []
        for start in range(0, len(suspects), size):
            group = suspects[start : start + size]
            wire = self._open(socket.AF_INET if group[0][0].target.address.version == 4 else socket.AF_INET6)
            for host, members in groupby(group, key=lambda member: member[0]):
                target = host.target
                self._add(
                    Target(target.name, target.address, [port for _, port in members]), wire, alone=True
                )
            groups.append((wire, group))
        self._loop(lambda _: None)
        unclear = []
        for wire, group in groups:
            for host, number in group:
                again = wire.hosts[host.target.address]
                self._catch_up(again)
                if again.results[number].state is not State.SILENT:
                    host.results[number] = again.results[number]
                elif wire.strays and size > 1:
                    unclear.append((host, number))
            self._poll.unregister(wire.socket)
            self._wires.remove(wire)
            wire.socket.close()
        return unclear
