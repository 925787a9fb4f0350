"""A host as the probe sees it, in simulated time: ports, Linux's budget for ICMP errors, loss, delay."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random

from udpkit.probe.sweep import NEVER, Sweep

HOST, ROUTER = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.254")


@dataclass
class Bucket:
    """inet_peer_xrlim_allow(): `interval` seconds a token, at most `burst` of them."""

    interval: float
    tokens: float
    burst: int = 6
    last: float = 0.0

    def allows(self, now: float) -> bool:
        if not self.interval:
            return True
        self.tokens = min(self.tokens + (now - self.last) / self.interval, self.burst)
        self.last = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


@dataclass
class SimulatedHost:
    """What answers what: the host itself refuses `closed` ports, a router on the way `rejected` ones.

    Others are silent, but for `answering`. loss and overtaking are probabilities of each datagram, one way.
    """

    closed: Collection[int] = ()
    answering: Collection[int] = ()
    rejected: Collection[int] = ()
    interval: float = 1.0
    tokens: float = 6.0
    loss: float = 0.0
    delay: float = 0.0002
    jitter: float = 0.0
    overtaking: float = 0.0
    thinking: float = 0.0
    """Seconds until an answer is sent."""
    mute_after: float = NEVER
    """When it stops to send ICMP errors."""


@dataclass
class Outcome:
    """What the sweep has learnt: `silent` ports and whether that is proven, the others as they were told."""

    silent: dict[int, bool]
    answered: set[int] = field(default_factory=set)
    refused: dict[int, IPv4Address] = field(default_factory=dict)
    seconds: float = 0.0
    sent: int = 0


def play(sweep: Sweep, host: SimulatedHost, random: Random, limit: float = 1000) -> Outcome:
    """Let the sweep probe the host; fails if it takes longer than `limit` seconds."""
    outcome = Outcome({})
    buckets = {address: Bucket(host.interval, host.tokens) for address in (HOST, ROUTER)}
    now = 0.0
    order = itertools.count()
    latest = {"probe": 0.0, "answer": 0.0}  # arrivals there and here: a path keeps the order
    arrivals: list[tuple[float, int, int, IPv4Address | str]] = []

    def travel(port: int, what: IPv4Address | str, wait: float = 0.0) -> None:
        if random.random() < host.loss:
            return
        way = "probe" if what == "probe" else "answer"
        arrives = now + wait + host.delay + random.random() * host.jitter
        if random.random() >= host.overtaking and not wait:
            arrives = latest[way] = max(arrives, latest[way])
        heapq.heappush(arrivals, (arrives, next(order), port, what))

    while not sweep.finished:
        for port in sweep.due(now):
            outcome.sent += 1
            travel(port, "probe")
        if sweep.finished:
            break
        now = max(now, min(sweep.wake(), arrivals[0][0] if arrivals else NEVER))
        assert now < limit, f"not finished after {limit} s: {len(sweep.silent)} ports left"
        while arrivals and arrivals[0][0] <= now:
            _, _, port, what = heapq.heappop(arrivals)
            if isinstance(what, IPv4Address):
                outcome.refused[port] = what
                sweep.refused(port, what, now, closed=what == HOST)
            elif what == "answer":
                outcome.answered.add(port)
                sweep.replied(port)
            elif port in host.answering:
                travel(port, "answer", host.thinking)
            elif now < host.mute_after:
                for ports, offender in ((host.closed, HOST), (host.rejected, ROUTER)):
                    if port in ports and buckets[offender].allows(now):
                        travel(port, offender)
    outcome.silent = {port.number: port.proven for port in sweep.silent}
    outcome.seconds = now
    return outcome
