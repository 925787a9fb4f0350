"""What the exchanges over UDP and TCP have in common: waiting for both sides, and the times of the plan."""

from __future__ import annotations

import math
import select
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator

from udpkit.netcat.plan import Plan, Talk
from udpkit.netcat.stdio import STDIN, Input
from udpkit.sockets import Socket

Deadline = tuple[float | None, float | None]
"""Since when, and how long; one that has a None is none."""


class Exchange(ABC):
    """stdin to the peer, the peer to stdout, until nothing more can come or the plan's times are over."""

    def __init__(self, sock: Socket | socket.socket, plan: Plan, talk: Talk) -> None:
        self.plan = plan
        self.talk = talk
        self.stdin = Input(plan)
        self.active = time.monotonic()
        """When something was sent or heard last."""
        self.ended: float | None = None
        """When the last of stdin was sent."""
        self._descriptor = sock.fileno()

    @abstractmethod
    def events(self) -> int:
        """For which poll(2) events of the socket to wait."""

    @abstractmethod
    def wants_stdin(self) -> bool:
        """Whether more could be sent now."""

    @abstractmethod
    def act(self, ready: bool, typed: bool) -> bool:
        """The socket is `ready`, stdin has something. Returns whether anything was sent or heard."""

    def is_over(self) -> bool:
        """Whether nothing more can come."""
        return False

    def has_sent_all(self) -> bool:
        return self.stdin.ended

    def stdin_ended(self) -> None:  # noqa: B027 - UDP has nothing to do
        """All of stdin was sent."""

    def may_tire(self) -> bool:
        """Whether `-w` counts."""
        return True

    def deadlines(self) -> Iterator[Deadline]:
        """What ends it, whatever happens."""
        yield self.ended, self.plan.quit_after

    @abstractmethod
    def result(self) -> int:
        """The exit code."""

    def run(self) -> int:
        """Returns the exit code."""
        while True:
            if self.plan.stdin and self.ended is None and self.has_sent_all():
                self.ended = time.monotonic()
                self.stdin_ended()
            end = seconds_left(*self.deadlines())
            if self.is_over() or end <= 0:
                return self.result()
            held = self.stdin.wait() if self.wants_stdin() else None
            # A line held back for `-i` is no idleness.
            tires = self.may_tire() and held is None
            idle = seconds_left((self.active, self.plan.wait)) if tires else math.inf
            ready, typed = self._wait(min(end, idle), held)
            if self.act(ready, typed):
                self.active = time.monotonic()
            elif idle <= 0:  # judged after a look: `-w 0` sends what is there
                return self.result()

    def _wait(self, limit: float, held: float | None) -> tuple[bool, bool]:
        """Wait for the socket and for stdin; whether each has something."""
        poll = select.poll()
        if events := self.events():
            poll.register(self._descriptor, events)
        if held is not None:
            limit = min(limit, held)
        elif self.wants_stdin():
            poll.register(STDIN, select.POLLIN)
        ready = dict(poll.poll(None if limit == math.inf else math.ceil(1000 * max(limit, 0))))
        return self._descriptor in ready, STDIN in ready or (held is not None and self.stdin.wait() == 0)


def seconds_left(*deadlines: Deadline) -> float:
    """Until the first of them; infinite if there is none."""
    now = time.monotonic()
    return min(
        (since + limit - now for since, limit in deadlines if since is not None and limit is not None),
        default=math.inf,
    )
