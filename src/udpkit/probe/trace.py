"""Hop by hop to where a datagram stops. No privilege is needed.

Theory of operation. A router that takes the last hop off a datagram tells its sender: ICMP time exceeded. The
error queue hands that over (IP_RECVERR in ip(7)), so datagrams with a TTL of 1, 2, 3, … name the routers one
after the other. All leave from one socket, with the payload of a normal probe: firewalls and load balancers
treat them as they treat the probe, up to where they end.

- Such errors do not say which TTL they are about. So one hop is asked at a time, several times if it keeps
  silent, for routers limit their errors as hosts do. An address that an earlier hop has may be a late answer
  to one of the probes that were sent there in vain: as many of those as can come are passed over, and one
  more, as a network may double a datagram. What still comes after that is a hop: a loop. An answer that takes
  longer than the timeout counts for the hop that is asked then.
- A reply ends it, and so does an error that decides. If `SILENT_HOPS` hops in a row keep silent, one question
  is left: does the host refuse a port that is probably closed? Then datagrams get there.
- At last the path MTU is measured: `path_mtu.py`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from udpkit.facts import Address, Endpoint
from udpkit.probe.path import AFTERMATH, Path, is_exceeded
from udpkit.probe.path_mtu import PathMtu, measure
from udpkit.probe.result import Result, State, same_host, state_of
from udpkit.probe.sweep import Port
from udpkit.probe.verdict import refused_result, replied_result
from udpkit.probe.wire import Settings
from udpkit.sockets import Datagram, ErrorReport

MOST_HOPS = 30
SILENT_HOPS = 5
"""So many in a row without an answer are the end."""
ROUND = 3
"""So many times a router must come back, others between, to be a loop."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Who answered datagrams with this TTL."""

    number: int
    """The TTL."""
    address: Address | None
    """None if nobody did; or if it was this host."""
    rtt: float | None = None
    """Seconds from the last probe before the answer; None if it is surely about an earlier one."""
    icmp: ErrorReport | None = None
    """The error; None if it was a reply, or nothing."""
    answer: str | None = None
    """What kind of reply it was: its protocol's words for it, or its length."""


@dataclass(slots=True)
class Question:
    """The asking of one hop."""

    number: int
    first_sent: float = 0.0
    turn: int = 0
    """How often it was asked."""
    passed_over: int = 0
    """How many answers were taken for those of earlier hops."""


class Trace:
    """The way to one port of one address: take what `run` gives, as soon as it is known.

    Raises OSError if there can be no such socket: a source that is not this host's, no such interface.
    """

    def __init__(self, name: str, target: Endpoint, settings: Settings, random: Random | None = None) -> None:
        self.target = target
        self.hops: list[Hop] = []
        self.result: Result | None = None
        self.path_mtu: PathMtu | None = None
        self._name = name
        self._settings = settings
        self._path = Path(target, settings, random or Random())  # noqa: S311 - nothing secret
        self._port = Port(target.port)
        self._late: Counter[Address] = Counter()  # answers of each hop that may still come

    def run(self) -> Iterator[Hop | Result | PathMtu]:
        """Each hop, then the verdict, then the path MTU unless nothing gets there."""
        try:
            yield from self._walk()
            self._path.limit_hops(None)
            self.result = self.result or self._silent_result()
            yield self.result
            if self.result.state is not State.UNREACHABLE and not self._stays_here(self.result.icmp):
                routers = [
                    (hop.number, hop.address)
                    for hop in self.hops
                    if hop.address and hop.icmp and is_exceeded(hop.icmp)
                ]
                is_closed = self.result.state is State.CLOSED
                self.path_mtu = measure(self._path, routers, is_closed=is_closed)
                yield self.path_mtu
        finally:
            self._path.close()

    def _walk(self) -> Iterator[Hop]:
        """Until there is a verdict, or nobody answers any more."""
        silent = 0
        for number in range(1, MOST_HOPS + 1):
            hop = self._ask_hop(number)
            if hop.icmp and hop.icmp.origin == "local":
                return
            self.hops.append(hop)
            yield hop
            if self.result and silent and hop.address and same_host(hop.address, self.target.address):
                self._add_evidence(f"the hops before kept silent: it may be as near as hop {number - silent}")
            silent = 0 if hop.address else silent + 1
            if self.result or silent == SILENT_HOPS:
                return
            if hop.icmp and (number == MOST_HOPS or self._is_loop(hop.address)):
                self.result = self._endless(hop.icmp)
                return

    # One hop.

    def _ask_hop(self, number: int) -> Hop:
        """Who answers datagrams with this TTL; sets `result` if that is the end."""
        self._path.limit_hops(number)
        tries = self._settings.retries + 1
        asked = Question(number)
        while asked.turn < tries:
            asked.turn += 1
            self._port.last_sent = self._path.send(self._path.payload.data, self.target.port)
            self._port.sent += 1
            asked.first_sent = asked.first_sent or self._port.last_sent
            # The last try gets all the time that an answer may take.
            wait = self._path.wait if asked.turn < tries else self._settings.timeout
            event = self._next_news(asked, self._port.last_sent + wait)
            if event and (hop := self._heard(asked, event, time.monotonic())):
                return hop
        return Hop(number, None)

    def _next_news(self, asked: Question, deadline: float) -> Datagram | ErrorReport | None:
        """What comes next, late answers of earlier hops apart."""
        while event := self._path.next(self.target.port, deadline):
            if not (isinstance(event, ErrorReport) and is_exceeded(event) and event.offender):
                return event
            if not self._late[event.offender]:
                return event
            self._late[event.offender] -= 1
            asked.passed_over += 1
        return None

    def _heard(self, asked: Question, event: Datagram | ErrorReport, now: float) -> Hop | None:
        """The hop that an answer makes; None if the question must be asked again."""
        if isinstance(event, Datagram):
            return self._replied(asked, event, now)
        rtt = now - self._port.last_sent
        if is_exceeded(event) and event.offender:
            self._path.took(rtt)
            self._late[event.offender] = max(1, asked.turn - asked.passed_over)
            return Hop(asked.number, event.offender, rtt, event)
        if state := state_of(event):
            self._path.took(rtt)
            self._settle(asked, now)
            return self._decided(asked.number, event, state, now)
        return None  # too big: the kernel has heard it too, and fragments from now on

    def _replied(self, asked: Question, datagram: Datagram, now: float) -> Hop:
        self.result = replied_result(self._name, self.target, self._port, datagram, self._path.payload, now)
        self._path.took(now - asked.first_sent)
        self._settle(asked, now)
        length = len(datagram.data)
        what = self.result.answer or (f"{length} byte" if length == 1 else f"{length} bytes")
        return Hop(asked.number, datagram.peer.address, self.result.rtt, answer=what)

    def _decided(self, number: int, report: ErrorReport, state: State, now: float) -> Hop:
        """An error that ends it."""
        self.result = refused_result(self._name, report, state, self._port, now)
        offender = None if self._stays_here(report) else report.offender
        earlier = [hop.number for hop in self.hops if hop.address and hop.address == offender]
        if earlier:
            self._add_evidence(f"that is hop {earlier[-1]}: the datagram goes no further")
        if self._follows_silence and (earlier or not offender):
            # About an earlier probe: ARP and neighbour discovery give up after three seconds.
            self.result = replace(self.result, rtt=None)
        return Hop(number, offender, self.result.rtt, report)

    def _settle(self, asked: Question, now: float) -> None:
        """More answers may come if it was asked more than once."""
        if self._follows_silence:
            self._path.expect_more(self._settings.timeout)
        elif asked.turn > 1:
            self._path.expect_more(AFTERMATH * (now - asked.first_sent))

    @property
    def _follows_silence(self) -> bool:
        return bool(self.hops) and not self.hops[-1].address

    def _stays_here(self, report: ErrorReport | None) -> bool:
        """Whether this host refused it itself, on the way to another."""
        if report is None or report.origin == "local":
            return report is not None
        return report.offender == report.local and not same_host(report.offender, self.target.address)

    # The end.

    def _is_loop(self, address: Address | None) -> bool:
        """Whether a router came back again and again, others between: NAT may give hops one address."""
        places = [hop.number for hop in self.hops if hop.address == address]
        return sum(two - one > 1 for one, two in pairwise(places)) >= ROUND - 1

    def _endless(self, report: ErrorReport) -> Result:
        result = refused_result(self._name, report, State.UNREACHABLE, self._port, time.monotonic())
        more = f"not there after {MOST_HOPS} hops"
        if self._is_loop(report.offender):
            places = [str(hop.number) for hop in self.hops if hop.address == report.offender]
            more = f"a routing loop: {report.offender} is hop {', '.join(places[:-1])} and {places[-1]}"
        return replace(result, rtt=None, evidence=[*result.evidence, more])

    def _silent_result(self) -> Result:
        """Nobody answered; is the host there at all?"""
        canary = self._path.seek_canary()
        for report in self._path.belated:
            if not is_exceeded(report) and (state := state_of(report)):
                result = refused_result(self._name, report, state, self._port, time.monotonic())
                return replace(result, rtt=None)
        last = next((hop for hop in reversed(self.hops) if hop.address), None)
        behind = f"behind hop {last.number} ({last.address})" if last else "from any hop"
        if canary:
            follows = (
                f"; port {canary} of this host was refused by the host itself: "
                "datagrams get there, so the port is open but quiet, or filtered"
            )
        else:
            follows = (
                ": the datagram, its answer or the ICMP errors stop there; or the port is open but quiet"
            )
        quiet = self._path.payload.protocol.quiet
        evidence = [f"no answer {behind}{follows}", *([quiet] if quiet else [])]
        return Result(
            self._name,
            self.target,
            State.SILENT,
            evidence,
            sent=self._port.sent,
            icmp_proven=canary is not None,
        )

    def _add_evidence(self, sentence: str) -> None:
        if self.result:
            self.result = replace(self.result, evidence=[*self.result.evidence, sentence])
