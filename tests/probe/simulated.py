"""A host as the probe sees it, in simulated time: ports, Linux's budget for ICMP errors, loss, delay."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from udpkit.probe.sweep import NEVER, Sweep

HOST = IPv4Address("192.0.2.1")


@dataclass
class Bucket:
    """inet_peer_xrlim_allow(): `interval` seconds a token, at most `burst` of them."""

    interval: float
    burst: int = 6
    tokens: float = NEVER
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
    """What answers what. `closed` ports are refused, `answering` ones answer, all others are silent."""

    closed: Collection[int]
    answering: Collection[int] = ()
    interval: float = 1.0
    loss: float = 0.0
    delay: float = 0.0002
    jitter: float = 0.0
    overtaking: float = 0.0
    closed_beyond: bool = True
    dies_at: float = NEVER


def play(
    sweep: Sweep, host: SimulatedHost, random: Random, limit: float = 10_000
) -> tuple[set[int], set[int], float]:
    """Let the sweep probe the host. Returns the ports that answered and were refused, and the seconds it took."""
    bucket = Bucket(host.interval)
    answered: set[int] = set()
    refused: set[int] = set()
    now = 0.0
    order = itertools.count()
    latest = {True: 0.0, False: 0.0}  # arrivals there and here: a path keeps the order
    arrivals: list[tuple[float, int, str, int]] = []  # in the host, or back here

    def travel(kind: str, port: int) -> None:
        way = kind == "probe"
        if random.random() >= host.loss:
            arrives = now + host.delay + random.random() * host.jitter
            if random.random() >= host.overtaking:
                arrives = latest[way] = max(arrives, latest[way])
            heapq.heappush(arrivals, (arrives, next(order), kind, port))

    while not sweep.finished:
        for port in sweep.due(now):
            travel("probe", port)
        if sweep.finished:
            break
        wake = sweep.wake()
        now = max(now, min(wake, arrivals[0][0] if arrivals else NEVER))
        assert now < limit, f"not finished after {limit} s: {len(sweep.silent)} ports left"
        while arrivals and arrivals[0][0] <= now:
            _, _, kind, port = heapq.heappop(arrivals)
            if kind == "answer":
                answered.add(port)
                sweep.replied(port)
            elif kind == "refusal":
                refused.add(port)
                sweep.refused(port, HOST, now)
            elif port in host.answering:
                travel("answer", port)
            elif (
                (port in host.closed or (host.closed_beyond and port >= 61000))
                and now < host.dies_at
                and bucket.allows(now)
            ):
                travel("refusal", port)
    return answered, refused, now
