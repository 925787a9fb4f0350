"""Hop by hop to where a datagram stops, and how large it may be on the way. No privilege is needed.

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
- Path MTU: datagrams that must not be fragmented (IP_PMTUDISC_PROBE, which looks past the path MTU that the
  kernel remembers), first as large as the interface allows; each "fragmentation needed" or "packet too big"
  names a smaller size (RFC 1191, RFC 8201). A reply or refusal proves that a size gets through. If small
  datagrams are answered and large ones are not, although no router has said a word, something swallows those
  (a black hole, RFC 2923): bisection finds the size.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

from udpkit.facts import Address, Endpoint
from udpkit.probe.result import TOO_BIG, Result, State, same_host, state_of
from udpkit.probe.run import Settings, Wire
from udpkit.probe.sweep import CANARIES, Port
from udpkit.probe.verdict import refused_result, replied_result
from udpkit.sockets import Datagram, ErrorReport

MOST_HOPS = 30
SILENT_HOPS = 5
"""So many in a row without an answer are the end."""
ROUND = 3
"""So many times a router must come back, others between, to be a loop."""
SHORTEST_WAIT = 0.1
"""Seconds that a hop gets at least, unless it is more than the timeout."""
TOKEN_TIME = 1.4
"""Seconds over which one size is asked: Linux refuses once a second (net.ipv4.icmp_ratelimit)."""
MOST_REPORTS = 10
"""So many routers may name a smaller size."""
TIME_EXCEEDED = {(4, 11, 0), (6, 3, 0)}
USUAL = (576, 1006, 1280, 1350, 1380, 1400, 1420, 1440, 1450, 1472, 1476, 1480, 1492, 1500, 4352, 9000)
"""MTUs of links and tunnels: tried before others."""


@dataclass(frozen=True, slots=True)
class Family:
    """What differs between IPv4 and IPv6: ip(7), ipv6(7), linux/in6.h."""

    number: socket.AddressFamily
    level: int
    hops: int
    discover: int
    overhead: int
    """Bytes of the IP and UDP headers."""
    least: int
    """Bytes that every link takes: RFC 791, RFC 8200 5."""
    ordinary: int
    """Bytes that every host takes: RFC 1122 3.3.2, RFC 8200 5."""


IPV4 = Family(socket.AF_INET, socket.IPPROTO_IP, socket.IP_TTL, 10, 28, 68, 576)
IPV6 = Family(socket.AF_INET6, socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 23, 48, 1280, 1280)
PMTUDISC_PROBE = 3
LARGEST = 65_507
"""Bytes of payload: RFC 768 over IPv4."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Who answered datagrams with this TTL."""

    number: int
    """The TTL."""
    address: Address | None
    """None if nobody did."""
    rtt: float | None = None
    """Seconds from the last probe before the answer; None if it is surely about an earlier one."""
    icmp: ErrorReport | None = None
    """The error; None if it was a reply, or nothing."""
    answer: str | None = None
    """What kind of reply it was: its protocol's words for it, or its length."""


@dataclass(frozen=True, slots=True)
class PathMtu:
    """How large a packet may be on the way, IP header included."""

    bytes: int
    by: Address | None
    """The router that named that size; None if nobody did."""
    proven: bool
    """A datagram of that size was answered, or refused by the one who decided."""
    black_hole: bool
    """Larger ones vanish, and nobody says why."""
    evidence: str


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
        self._family = IPV4 if target.address.version == 4 else IPV6
        self._settings = settings
        self._random = random or Random()  # noqa: S311 - nothing secret
        self._payload = settings.payload(target.port)
        self._port = Port(target.port)
        self._late: dict[Address, int] = {}  # answers of each hop that may still come
        self._slowest: float | None = None
        self._events: deque[Datagram | ErrorReport] = deque()
        self._canary: int | None = None
        self._sought = False  # whether there was a search for one
        self._free_at = 0.0
        self._quiet_at = 0.0  # when the answers to earlier probes are all there
        self._belated: list[ErrorReport] = []  # about the target, while another port was asked
        self._socket = Wire(self._family.number, settings).socket
        self._default_hops = self._socket.getsockopt(self._family.level, self._family.hops)

    def run(self) -> Iterator[Hop | Result | PathMtu]:
        """Each hop, then the verdict, then the path MTU unless nothing gets there."""
        try:
            yield from self._walk()
            self._socket.setsockopt(self._family.level, self._family.hops, self._default_hops)
            if self.result is None:
                self.result = self._silent_result()
            yield self.result
            if self.result.state is not State.UNREACHABLE and not self._stays_here(self.result.icmp):
                self._socket.setsockopt(self._family.level, self._family.discover, PMTUDISC_PROBE)
                self.path_mtu = self._measure()
                yield self.path_mtu
        finally:
            self._socket.close()

    # Hop by hop.

    def _walk(self) -> Iterator[Hop]:
        silent = 0
        for number in range(1, MOST_HOPS + 1):
            hop = self._ask_hop(number)
            if hop is None:
                return
            self.hops.append(hop)
            yield hop
            if self.result and silent and hop.address and same_host(hop.address, self.target.address):
                note = f"the hops before kept silent: it may be as near as hop {number - silent}"
                self.result = replace(self.result, evidence=[*self.result.evidence, note])
            silent = 0 if hop.address else silent + 1
            if self.result or silent == SILENT_HOPS:
                return
            if hop.icmp and (number == MOST_HOPS or self._is_loop(hop.address)):
                self.result = self._endless(hop.icmp)
                return

    def _ask_hop(self, number: int) -> Hop | None:
        """Who answers datagrams with this TTL; None if this host does not send them."""
        self._socket.setsockopt(self._family.level, self._family.hops, number)
        tries = self._settings.retries + 1
        passed_over = 0
        for turn in range(1, tries + 1):
            self._port.last_sent = self._send(self.target, self._payload.data)
            self._port.sent += 1
            if turn == 1:
                first = self._port.last_sent
            # The last try gets all the time that an answer may take.
            wait = self._wait if turn < tries else self._settings.timeout
            deadline = self._port.last_sent + wait
            while event := self._next(self.target.port, deadline):
                now = time.monotonic()
                rtt = now - self._port.last_sent
                if isinstance(event, Datagram):
                    self._time(now - first)
                    self.result = replied_result(
                        self._name, self.target, self._port, event, self._payload, now
                    )
                    self._settle(now, first, turn)
                    length = len(event.data)
                    what = self.result.answer or (f"{length} byte" if length == 1 else f"{length} bytes")
                    return Hop(number, event.peer.address, rtt, answer=what)
                if kind_of(event) in TIME_EXCEEDED and event.offender:
                    if self._late.get(event.offender):
                        self._late[event.offender] -= 1
                        passed_over += 1
                        continue
                    self._time(rtt)
                    self._late[event.offender] = max(1, turn - passed_over)
                    return Hop(number, event.offender, rtt, event)
                if state := state_of(event):
                    self._time(rtt)
                    self._settle(now, first, turn)
                    return self._decided(number, event, state, now)
                break  # too big: the kernel has heard it too, and fragments from now on
        return Hop(number, None)

    def _settle(self, now: float, first: float, turn: int) -> None:
        """More answers may come if it was asked more than once: they are not those to what is asked next."""
        if self.hops and not self.hops[-1].address:
            self._quiet_at = now + self._settings.timeout
        elif turn > 1:
            self._quiet_at = now + 1.5 * (now - first)

    def _decided(self, number: int, report: ErrorReport, state: State, now: float) -> Hop | None:
        """An error that ends it."""
        self.result = refused_result(self._name, report, state, self._port, now)
        if report.origin == "local":
            return None
        offender = None if self._stays_here(report) else report.offender
        earlier = [hop.number for hop in self.hops if hop.address and hop.address == offender]
        if earlier:
            evidence = [*self.result.evidence, f"that is hop {earlier[-1]}: the datagram goes no further"]
            self.result = replace(self.result, evidence=evidence)
        if self.hops and not self.hops[-1].address and (earlier or not offender):
            # About an earlier probe: ARP and neighbour discovery give up after three seconds.
            self.result = replace(self.result, rtt=None)
        return Hop(number, offender, self.result.rtt, report)

    def _is_loop(self, address: Address | None) -> bool:
        """Whether a router came back again and again, others between: NAT may give hops one address."""
        places = [hop.number for hop in self.hops if hop.address == address]
        return sum(two - one > 1 for one, two in pairwise(places)) >= ROUND - 1

    def _endless(self, report: ErrorReport) -> Result:
        result = refused_result(self._name, report, State.UNREACHABLE, self._port, time.monotonic())
        places = [str(hop.number) for hop in self.hops if hop.address == report.offender]
        more = f"not there after {MOST_HOPS} hops"
        if self._is_loop(report.offender):
            more = f"a routing loop: {report.offender} is hop {', '.join(places[:-1])} and {places[-1]}"
        return replace(result, rtt=None, evidence=[*result.evidence, more])

    def _silent_result(self) -> Result:
        """Nobody answered; is the host there at all?"""
        last = next((hop for hop in reversed(self.hops) if hop.address), None)
        behind = f"behind hop {last.number} ({last.address})" if last else "from any hop"
        self._canary = self._find_canary()
        for report in self._belated:
            if kind_of(report) not in TIME_EXCEEDED and (state := state_of(report)):
                result = refused_result(self._name, report, state, self._port, time.monotonic())
                return replace(result, rtt=None)
        if self._canary:
            evidence = [
                f"no answer {behind}; port {self._canary} of this host was refused by the host itself: "
                "datagrams get there, so the port is open but quiet, or filtered"
            ]
        else:
            evidence = [
                f"no answer {behind}: the datagram, its answer or the ICMP errors stop there; "
                "or the port is open but quiet"
            ]
        if self._payload.protocol.quiet:
            evidence.append(self._payload.protocol.quiet)
        proven = self._canary is not None
        return Result(
            self._name, self.target, State.SILENT, evidence, sent=self._port.sent, icmp_proven=proven
        )

    def _find_canary(self) -> int | None:
        """A port that the host itself refuses: one that is probably closed, if it is."""
        self._sought = True
        number = self._random.choice([port for port in CANARIES if port != self.target.port])
        answer = self._ask_size(number, self._family.overhead + len(self._payload.data[:8]))
        is_closed = isinstance(answer, ErrorReport) and state_of(answer) is State.CLOSED
        return number if is_closed else None

    # Path MTU.

    def _measure(self) -> PathMtu:
        """From the interface's MTU down to what gets through."""
        size, by, mute = LARGEST + self._family.overhead, None, None
        for _ in range(MOST_REPORTS + 1):
            answer = self._ask_size(self.target.port, size)
            mtu = too_big(answer)
            if not isinstance(answer, ErrorReport) or mtu is None:
                break
            if not self._family.least <= mtu < size:  # RFC 1191 5: some name no size; or it is forged
                mute = answer.offender
                break
            size = mtu
            by = answer.offender if answer.origin != "local" else by
        how = self._passed(answer)
        if not how:
            if self.result and self.result.state is State.CLOSED:
                self._canary = self.target.port
            elif not self._sought:
                self._canary = self._find_canary()
            if self._canary and self._canary != self.target.port:
                how = self._passed(self._ask_size(self._canary, size))
                how = how and f"{how} at port {self._canary}"
        says = f"{by} says so" if by else "nothing smaller was reported"
        if how:
            evidence = f"{says}; a datagram of that size was {how}"
            return PathMtu(size, by, proven=True, black_hole=False, evidence=evidence)
        evidence = f"{says}; a router that drops without a word would not show"
        return self._bisect(size, mute) or PathMtu(
            size, by, proven=False, black_hole=False, evidence=evidence
        )

    def _passed(self, answer: Datagram | ErrorReport | None) -> str:
        """How it is known that a datagram got through; empty if it is not."""
        if isinstance(answer, Datagram):
            return "answered"
        state = state_of(answer) if answer else None
        if answer and state is State.CLOSED:
            return "refused by the host itself"
        if answer and state is State.PROHIBITED and answer.origin != "local":
            return f"refused by {answer.offender}, so it is known as far as there"
        return ""

    def _bisect(self, size: int, mute: Address | None) -> PathMtu | None:
        """The largest size below `size` that gets through; None if that cannot be known.

        mute: the router that says "too big", but names no size that can be.
        """
        low, high = self._family.ordinary, size
        judge = self._canary or self.target.port
        if low >= high or not self._passed(self._ask_size(judge, low)):
            return None
        reached = self._farthest(size)
        routers = self._routers
        if not (self._canary or mute or (routers and reached is not routers[-1])):
            return None  # every router sees them; that the service ignores what is so long is as likely
        while high - low > 1:
            usual = [one for one in USUAL if low < one < high]
            # A usual MTU that gets through is most often the one: then the next byte does not.
            middle = usual[len(usual) // 2] if usual else low + 1 if low in USUAL else (low + high) // 2
            if self._passed(self._ask_size(judge, middle)):
                low = middle
            else:
                high = middle
        # Silence for lack of a token would show now: again, and one that gets through right behind it.
        if self._passed(self._ask_size(judge, high)) or not self._passed(self._ask_size(judge, low)):
            return None
        if mute:
            evidence = f"{mute} says that larger datagrams are too big, but not which size would do"
        else:
            where = f" behind hop {reached.number} ({reached.address})" if reached else ""
            evidence = f"larger datagrams vanish without a word: a black hole{where}"
        return PathMtu(low, mute, proven=True, black_hole=not mute, evidence=evidence)

    @property
    def _routers(self) -> list[Hop]:
        return [hop for hop in self.hops if hop.icmp and kind_of(hop.icmp) in TIME_EXCEEDED]

    def _farthest(self, size: int) -> Hop | None:
        """The last router to which packets of that size are known to get."""
        reached = None
        for hop in self._routers:
            self._socket.setsockopt(self._family.level, self._family.hops, hop.number)
            answer = self._ask_size(self.target.port, size, exceeds=True)
            if not isinstance(answer, ErrorReport) or answer.offender != hop.address:
                break
            reached = hop
        self._socket.setsockopt(self._family.level, self._family.hops, self._default_hops)
        return reached

    def _ask_size(self, number: int, size: int, *, exceeds: bool = False) -> Datagram | ErrorReport | None:
        """What comes back for a packet of so many bytes, IP header included; None if nothing does.

        exceeds: whether time exceeded is an answer, not one that is late.
        """
        data = self._payload.data[: size - self._family.overhead].ljust(size - self._family.overhead, b"\0")
        tries = max(2, self._settings.retries + 1)
        wait = max(self._wait, TOKEN_TIME / tries)
        while self._next(number, self._quiet_at):
            pass  # what came late
        first = time.monotonic()
        for turn in range(1, tries + 1):
            deadline = self._send(Endpoint(self.target.address, number), data) + wait
            while event := self._next(number, deadline):
                if exceeds or isinstance(event, Datagram) or kind_of(event) not in TIME_EXCEEDED:
                    if turn > 1 and isinstance(event, Datagram):  # a refusal was only short of tokens
                        now = time.monotonic()
                        self._quiet_at = now + 1.5 * (now - first)
                    return event
        return None

    # Small things.

    @property
    def _wait(self) -> float:
        """Seconds that an answer gets before the next try."""
        timeout = self._settings.timeout
        return min(timeout, timeout / 2 if self._slowest is None else max(SHORTEST_WAIT, 4 * self._slowest))

    def _time(self, rtt: float) -> None:
        self._slowest = max(self._slowest or 0.0, rtt)

    def _send(self, to: Endpoint, data: bytes) -> float:
        """Returns when."""
        if self._settings.rate:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            self._free_at = time.monotonic() + 1 / self._settings.rate
        at = time.monotonic()
        while not self._socket.send_many([(data, to)]):
            select.select([], [self._socket], [])
        return at

    def _next(self, number: int, deadline: float) -> Datagram | ErrorReport | None:
        """The next reply, or error about a datagram to this port; None if there is none until then."""
        while not self._events:
            self._events += self._socket.recv_many()
            reports = self._socket.errors()
            self._events += [one for one in reports if self._is_about(one, number)]
            if number != self.target.port:
                self._belated += [one for one in reports if self._is_about(one, self.target.port)]
            left = deadline - time.monotonic()
            if not self._events:
                if left <= 0:
                    return None
                select.select([self._socket], [], [], left)
        return self._events.popleft()

    def _is_about(self, report: ErrorReport, number: int) -> bool:
        peer = report.peer
        return peer is not None and peer.port == number and same_host(peer.address, self.target.address)

    def _stays_here(self, report: ErrorReport | None) -> bool:
        """Whether this host refused it itself, on the way to another."""
        if report is None or report.origin == "local":
            return report is not None
        return report.offender == report.local and not same_host(report.offender, self.target.address)


def kind_of(report: ErrorReport) -> tuple[int, int | None, int | None]:
    """(IP version, type, code)."""
    return (6 if report.origin == "icmp6" else 4, report.type, report.code)


def too_big(answer: Datagram | ErrorReport | None) -> int | None:
    """The size that this host or a router names, 0 if none; None if the answer is another one."""
    if not isinstance(answer, ErrorReport):
        return None
    local = answer.origin == "local" and answer.kind == "too big"
    return answer.mtu or 0 if local or kind_of(answer) in TOO_BIG else None
