"""How fast a host or a router grants us ICMP errors: a token bucket, seen from outside."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

BURST = 6
"""Tokens that Linux saves (XRLIM_BURST_FACTOR in net/ipv4/icmp.c)."""


@dataclass(slots=True)
class Count:
    """Tokens spent since a moment at which at most `saved` were there."""

    since: float
    saved: int
    until: float = 0.0
    spent: int = 0

    @property
    def bound(self) -> float:
        """Seconds that a token takes at most: all spent but the saved ones came in the time between."""
        return (self.until - self.since) / (self.spent - self.saved)


class Budget:
    """What is known of an offender's bucket of tokens."""

    def __init__(self) -> None:
        self.canaries: deque[int] = deque(maxlen=16)
        """Ports that it has refused: closed ones, as soon as one is known."""
        self.has_closed = False
        """Whether it is the probed host, which has refused a closed port."""
        self._counts: list[Count] = []

    def refused(self, number: int, *, closed: bool) -> None:
        """It has refused a port, and would again."""
        if closed and not self.has_closed:
            self.canaries.clear()
            self.has_closed = True
        if closed or not self.has_closed:
            self.canaries.append(number)

    def reset(self) -> None:
        """Forget what was learnt of the rate."""
        self._counts = []

    def empty(self, at: float) -> None:
        """It had less than one token then."""
        if len(self._counts) < 2:
            self._counts.append(Count(at, 1))

    def spend(self, at: float) -> None:
        """It had a token then."""
        if not self._counts:
            self._counts.append(Count(at, BURST))
        for count in self._counts:
            count.spent += 1
            count.until = at

    @property
    def token_time(self) -> float | None:
        """Seconds that a token takes, no less than what is true; None if that is not known."""
        bounds = [count.bound for count in self._counts if count.spent > count.saved]
        return min(bounds) if bounds else None
