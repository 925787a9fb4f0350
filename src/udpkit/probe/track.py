"""What is remembered of the ports that are asked again and again: requests, counts, round trips, events."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from udpkit.facts import Endpoint
from udpkit.probe.payload import Payload
from udpkit.probe.result import Result, State

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

    kind: Literal["reply", "lost", "refused", "late", "duplicate", "change"]
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
