"""Keep asking the same ports, like ping: who answers, who does not, and when that changes. Pure: no sockets.

Theory of operation. Every *tick* sends each port one request. What comes is given to the request to which it
belongs (`matching.py`); a request to which nothing comes in time is lost.

- What comes from a wrong address and proves nothing may be a stray; it counts if no right answer comes.
- A late answer is no loss undone, but it shows that the port is open. News of an older tick than the one that
  told something last changes nothing.
- One loss is no change of state; `LOSSES` in a row are.
- ICMP errors are rate limited, to one a second from each Linux host: a closed port is not refused every time.
  It stays closed until it answers, or was silent for longer than the limit explains. Of one host's ports
  those refused last come last in the next tick: so each has its turn, and one that has just died the first.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence

from udpkit.facts import Address, Endpoint
from udpkit.probe.matching import answered_request, only_suspect, refused_request
from udpkit.probe.payload import Payload
from udpkit.probe.result import Result, State, state_of
from udpkit.probe.sweep import Port
from udpkit.probe.track import Event, Fate, Request, Tick, Track
from udpkit.probe.verdict import refused_result, replied_result
from udpkit.probe.wire import Settings, Target
from udpkit.sockets import Datagram, ErrorReport

MOST_PORTS = 1024
MOST_WAITING = 65_536
"""Requests without an answer at a time, of all ports together."""
REMEMBERED = 32
"""Requests of a port that are remembered beyond those that wait, for late and second answers."""
LOSSES = 3
QUIET = 5.0
"""Seconds for which a refused port may be silent, at least: a dead neighbour is found out every 3.1 s."""
TOKEN = 1.0
"""Seconds for one ICMP error (net.ipv4.icmp_ratelimit)."""
REFUSING = (State.CLOSED, State.PROHIBITED, State.UNREACHABLE)
"""States that are known from errors, which are rate limited."""


class Watch:
    """Ports and requests, without sockets and clock: it is told what was sent and what came, and when."""

    def __init__(
        self,
        targets: Sequence[Target],
        settings: Settings,
        every: float,
        tell: Callable[[Event], None],
        settled: Callable[[Tick], None] = lambda _: None,
    ) -> None:
        """every: seconds between ticks. `settled` is called when all of a tick is answered, refused or lost.

        Raises ValueError with one line if that is too much at a time.
        """
        waiting = waiting_at_once(sum(len(target.ports) for target in targets), settings.timeout, every)
        self._payload = settings.payload
        self._timeout = settings.timeout
        self._every = every
        self._tell = tell
        self._settled = settled
        self.tracks = [
            Track(target.name, Endpoint(target.address, port), waiting + REMEMBERED)
            for target in targets
            for port in target.ports
        ]
        self._by_target = {track.target: track for track in self.tracks}
        self._open: deque[Request] = deque()
        self._ticks: dict[int, Tick] = {}
        self._refusing: Counter[Address] = Counter()
        self.strays = 0
        """Datagrams that are nobody's answer."""

    # What the caller asks.

    def tick(self, seq: int) -> list[Track]:
        """The ports to ask now, in this order."""
        self._ticks[seq] = Tick(seq, len(self.tracks), dict.fromkeys(Fate, 0), [])
        return sorted(self.tracks, key=lambda track: track.last_refused)

    def payload(self, track: Track) -> Payload:
        """For a new request. The first of a protocol may take a while: it loads what it needs."""
        return self._payload(track.target.port)

    def ask(self, track: Track, seq: int, payload: Payload, now: float) -> None:
        """The request is sent now."""
        request = Request(track, seq, payload, now)
        track.sent += 1
        track.recent.append(request)
        self._open.append(request)

    @property
    def deadline(self) -> float:
        """When to call `expire`; infinite if nothing waits."""
        while self._open and self._open[0].fate is not Fate.WAITING:
            self._open.popleft()
        return self._open[0].sent_at + self._timeout if self._open else math.inf

    # What the caller tells.

    def finish(self, now: float) -> None:
        """Nothing is waited for any more: what has come from elsewhere was an answer."""
        for request in self._open:
            if request.fate is Fate.WAITING and request.stray:
                self._answered(request, request.stray, now)

    def expire(self, now: float) -> None:
        """Requests whose time is over are lost."""
        while self.deadline <= now:
            request = self._open.popleft()
            if request.stray:
                self._answered(request, request.stray, now)
            else:
                self._lost(request, now)

    def received(self, datagram: Datagram, now: float) -> None:
        """A datagram has come."""
        right = self._by_target.get(datagram.peer)
        track = right or only_suspect(self.tracks, datagram)
        if track is None:
            self.strays += 1
            return
        request, certain = answered_request(track, datagram.data, now, right=right is not None)
        if request is None:
            self.strays += 1
            return
        result = replied_result(track.host, track.target, as_port(request), datagram, request.payload, now)
        wrong = result.state is State.WRONG_SOURCE
        if wrong and not certain:
            if request.fate is Fate.WAITING:
                request.stray = request.stray or result
            else:
                self.strays += 1
        elif request.fate is Fate.WAITING:
            self._answered(request, result, now)
        elif request.fate is Fate.LOST:
            self._late(request, result, now)
        else:
            track.duplicates += 1
            self._tell(Event("duplicate", track, request.seq, track.state, result))

    def reported(self, report: ErrorReport, now: float) -> None:
        """An ICMP error has come, or this host did not send."""
        state = state_of(report)
        track = self._by_target.get(report.peer) if report.peer else None
        if state is None or track is None:
            return
        request = refused_request(track, report, now)
        if request is None:
            return
        track.last_refused = now
        result = refused_result(track.host, report, state, as_port(request), now)
        if request.fate is Fate.LOST:
            self._late(request, result, now)
            return
        track.refused += 1
        request.fate = Fate.REFUSED
        self._tell(Event("refused", track, request.seq, state, result))
        self._turn(request, result, now)
        self._settle(request)

    # What follows.

    def _answered(self, request: Request, result: Result, now: float) -> None:
        track = request.track
        rtt = result.rtt or 0.0
        track.round_trips.add(rtt)
        self._ticks[request.seq].round_trips.append(rtt)
        if result.state is State.OPEN:
            track.answered += 1
            request.fate = Fate.ANSWERED
        else:
            track.wrong_source += 1
            request.fate = Fate.WRONG_SOURCE
        self._tell(Event("reply", track, request.seq, result.state, result))
        self._turn(request, result, now)
        self._settle(request)

    def _late(self, request: Request, result: Result, now: float) -> None:
        request.fate = Fate.LATE
        request.track.late += 1
        self._tell(Event("late", request.track, request.seq, result.state, result))
        self._turn(request, result, now)

    def _lost(self, request: Request, now: float) -> None:
        track = request.track
        track.lost += 1
        track.misses += request.seq > track.newest
        request.fate = Fate.LOST
        self._tell(Event("lost", track, request.seq, track.state))
        if track.misses >= LOSSES and now - track.heard > self._grace(track):
            self._change(track, request.seq, State.SILENT, None, now)
        self._settle(request)

    def _settle(self, request: Request) -> None:
        """After all else that is told of it: the last one of a tick ends the tick."""
        tick = self._ticks[request.seq]
        tick.fates[request.fate] += 1
        tick.left -= 1
        if not tick.left:
            del self._ticks[request.seq]
            self._settled(tick)

    def _turn(self, request: Request, result: Result, now: float) -> None:
        """A tick has told something."""
        track = request.track
        if request.seq >= track.newest:
            track.newest = request.seq
            track.misses = 0
            track.heard = now
            self._change(track, request.seq, result.state, result, now)

    def _change(self, track: Track, seq: int, state: State, result: Result | None, now: float) -> None:
        was, since = track.state, track.since
        if state is was:
            return
        if state is State.OPEN and track.left_open is not None:
            since = track.left_open
        if was is State.OPEN:
            track.left_open = now
        address = track.target.address
        self._refusing[address] += (state in REFUSING) - (was in REFUSING)
        track.state, track.since = state, now
        self._tell(Event("change", track, seq, state, result, was, None if was is None else now - since))

    def _grace(self, track: Track) -> float:
        """Seconds for which silence is no news."""
        if track.state not in REFUSING:
            return 0.0
        others = self._refusing[track.target.address] - 1
        return max(QUIET, LOSSES * self._every + self._timeout) + others * max(TOKEN, self._every)


def waiting_at_once(ports: int, timeout: float, every: float) -> int:
    """Requests to a port that can wait at a time. Raises ValueError with one line if that is too much."""
    if ports > MOST_PORTS:
        raise ValueError(f"{ports:,} ports are too many to keep asking: {MOST_PORTS:,} at most")
    waiting = math.ceil(timeout / every) + 1
    if ports * waiting > MOST_WAITING:
        raise ValueError(f"that is more than {MOST_WAITING:,} requests at a time: ask less often")
    return waiting


def as_port(request: Request) -> Port:
    """As a verdict wants it."""
    return Port(request.track.target.port, sent=1, last_sent=request.sent_at)
