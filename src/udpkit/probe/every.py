"""Keep asking the same ports, like ping: who answers, who does not, and when that changes.

Theory of operation. Every *tick* sends each port one request. An answer belongs to the request that its
protocol says it answers (`Protocol.recognise`). Where that cannot tell, as all requests are alike or the
answer is of another kind, the one is taken whose age is nearest to the last round trip; before there was one,
the oldest, or after a loss the newest. That can be wrong only where the timeout is longer than the interval.

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
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum

from udpkit.facts import Address, Endpoint
from udpkit.probe.payload import Payload
from udpkit.probe.result import Result, State, state_of
from udpkit.probe.run import Settings, Target, Wire
from udpkit.probe.sweep import Port as Sent
from udpkit.probe.verdict import refused_result, replied_result
from udpkit.sockets import Datagram, ErrorReport

MOST_PORTS = 1024
MOST_WAITING = 65_536
"""Requests without an answer at a time, of all ports together."""
REMEMBERED = 32
"""Requests of a port that are remembered beyond those that wait, for late and second answers."""
SHORTEST = 0.01
"""Seconds between two ticks, at least."""
LOSSES = 3
QUIET = 5.0
"""Seconds for which a refused port may be silent, at least: a dead neighbour is found out every 3.1 s."""
TOKEN = 1.0
"""Seconds for one ICMP error (net.ipv4.icmp_ratelimit)."""
REFUSING = (State.CLOSED, State.PROHIBITED, State.UNREACHABLE)
"""States that are known from errors, which are rate limited."""
BATCH = 64
"""Datagrams sent between two looks at the clock and at what has come."""
BATCHES = 16
LONGEST_POLL = 3600.0
STEP = 1.02
"""Round trips are counted in classes, each so much wider than the one before."""
BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds: the upper ends of the histogram's buckets."""


class Fate(Enum):
    """What became of a request, in words for people."""

    WAITING = "waiting"
    ANSWERED = "answered"
    WRONG_SOURCE = "answered from elsewhere"
    REFUSED = "refused"
    LOST = "lost"
    LATE = "late"
    """It was lost, until the answer came."""


@dataclass(slots=True, eq=False)
class Request:
    """One datagram. Times are in seconds of the caller's clock."""

    track: Track
    seq: int
    payload: Payload
    sent_at: float
    fate: Fate = Fate.WAITING
    stray: Result | None = None
    """An answer from elsewhere, perhaps to this one."""


class RoundTrips:
    """Round trips of a run of any length, in little memory: quantiles to 1 %."""

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0.0
        self.last: float | None = None
        self.least = math.inf
        self.most = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)
        """How many were in each bucket of the histogram: not cumulated, the last one has no upper end."""
        self._classes: dict[int, int] = {}

    def add(self, seconds: float) -> None:
        self.count += 1
        self.sum += seconds
        self.last = seconds
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)
        self.buckets[next((place for place, end in enumerate(BOUNDS) if seconds <= end), len(BOUNDS))] += 1
        number = round(math.log(max(seconds, 1e-7), STEP))
        self._classes[number] = self._classes.get(number, 0) + 1

    def quantile(self, share: float) -> float:
        """Seconds that this share of the round trips took at most; there must be some."""
        left = math.ceil(share * self.count)
        for number in sorted(self._classes):
            left -= self._classes[number]
            if left <= 0:
                return min(max(STEP**number, self.least), self.most)
        return self.most


class Track:
    """One port, and what became of the requests to it.

    `sent` is the sum of `answered`, `wrong_source`, `refused`, `lost` and those that wait; those of the lost
    that were answered or refused after all are `late`, too.
    """

    def __init__(self, host: str, target: Endpoint, memory: int) -> None:
        self.host = host
        self.target = target
        self.state: State | None = None
        """None before anything was heard, or missed often enough."""
        self.sent = self.answered = self.wrong_source = self.refused = self.lost = 0
        self.late = self.duplicates = 0
        self.round_trips = RoundTrips()
        self.recent: deque[Request] = deque(maxlen=memory)
        self.misses = 0
        """Lost in a row."""
        self.heard = -math.inf
        """When it last answered or was refused."""
        self.last_refused = -math.inf
        self.since = 0.0
        """When the state changed last."""
        self.left_open: float | None = None
        """When it was open last, before that."""
        self.newest = 0
        """The latest tick that told something."""

    @property
    def waiting(self) -> list[Request]:
        """The oldest first."""
        return [request for request in self.recent if request.fate is Fate.WAITING]


@dataclass(frozen=True, slots=True)
class Event:
    """Something to tell."""

    kind: str
    """`reply`, `lost`, `refused`, `late`, `duplicate` or `change`."""
    track: Track
    seq: int
    state: State | None
    """What the tick says of the port; of `lost` and `duplicate`, what is known of it anyway."""
    result: Result | None = None
    """The answer or refusal; None where there was none."""
    was: State | None = None
    """Of a change: the state before, None if it is the first."""
    after: float | None = None
    """Of a change, seconds: for how long it was not open, or has been in the state before."""


@dataclass(slots=True)
class Tick:
    """What became of one tick's requests, for a summary."""

    seq: int
    left: int
    fates: dict[Fate, int]
    round_trips: list[float]


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
        ports = sum(len(target.ports) for target in targets)
        if ports > MOST_PORTS:
            raise ValueError(f"{ports:,} ports are too many to keep asking: {MOST_PORTS:,} at most")
        waiting = math.ceil(settings.timeout / every) + 1
        if ports * waiting > MOST_WAITING:
            raise ValueError(f"that is more than {MOST_WAITING:,} requests at a time: ask less often")
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
        track = right or self._suspect(datagram)
        if track is None:
            self.strays += 1
            return
        request, certain = _asked(track, datagram.data, now, right is not None)
        if request is None:
            self.strays += 1
            return
        result = replied_result(track.host, track.target, _sent(request), datagram, request.payload, now)
        wrong = result.state is State.WRONG_SOURCE
        if request.fate is Fate.WAITING:
            if wrong and not certain:
                request.stray = request.stray or result
            else:
                self._answered(request, result, now)
        elif wrong and not certain:
            self.strays += 1
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
        about = [request for request in track.recent if _quotes(report.quoted, request.payload.data)]
        request = _likely([one for one in about if one.fate is Fate.WAITING], now)
        request = request or next((one for one in reversed(about) if one.fate is Fate.LOST), None)
        if request is None:
            return
        track.last_refused = now
        result = refused_result(track.host, report, state, _sent(request), now)
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
        if result.state is State.OPEN:
            track.answered += 1
        else:
            track.wrong_source += 1
        track.round_trips.add(rtt)
        self._ticks[request.seq].round_trips.append(rtt)
        request.fate = Fate.ANSWERED if result.state is State.OPEN else Fate.WRONG_SOURCE
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

    def _suspect(self, datagram: Datagram) -> Track | None:
        """The one port that can have answered from there, if there is one only."""
        peer = datagram.peer
        suspects = [
            track
            for track in self.tracks
            if (
                peer.port == track.target.port
                or len(self.tracks) == 1
                or (peer.address == track.target.address and _moves(track))
            )
            and track.waiting
        ]
        if len(suspects) > 1:
            suspects = [track for track in suspects if _asked(track, datagram.data, 0.0, False)[1]]
        return suspects[0] if len(suspects) == 1 else None


def _moves(track: Track) -> bool:
    """Whether its protocol's servers answer from another port by design."""
    return bool(track.recent) and track.recent[-1].payload.protocol.other_port


def _asked(track: Track, answer_untrusted: bytes, now: float, right: bool) -> tuple[Request | None, bool]:
    """The request that this answers, and whether that is certain; None if it answers none.

    right: whether it came from where the request went.
    """
    different = list({request.payload.data: request for request in track.recent}.values())
    for request in reversed(different):
        if request.payload.name(answer_untrusted):
            other = next((one for one in different if one is not request), None)
            if other and not other.payload.name(answer_untrusted):
                return request, True
            break  # it fits whatever was asked
    if waiting := track.waiting:
        free = [request for request in waiting if right or not request.stray]
        return _likely(free or waiting, now), False
    settled = list(track.recent)
    if settled and settled[-1].fate in (Fate.REFUSED, Fate.LOST):
        lost = [request for request in settled if request.fate is Fate.LOST]
        return (lost or settled)[-1], False
    return (settled[-1] if settled else None), False


def _likely(waiting: Sequence[Request], now: float) -> Request | None:
    """Which of several like requests it is that is answered now."""
    if not waiting:
        return None
    track = waiting[0].track
    usual = track.round_trips.last
    if usual is None:
        return waiting[-1 if track.lost else 0]
    return min(waiting, key=lambda request: abs(now - request.sent_at - usual))


def _quotes(quoted: bytes, payload: bytes) -> bool:
    """Whether an ICMP error can be about this payload; it may quote none of it."""
    return payload.startswith(quoted[: len(payload)])


def _sent(request: Request) -> Sent:
    """As a sweep has it."""
    return Sent(request.track.target.port, sent=1, last_sent=request.sent_at)


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
    """Ask at every tick, from the same sockets, until all of `count` ticks are settled; without one for ever.

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
    """Take what is there; so many batches at most, so that a flood cannot keep us from asking."""
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
