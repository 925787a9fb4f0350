"""Waiting on conditions, never on the clock alone."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from udpkit.lab.errors import TimedOut

T = TypeVar("T")

RECHECK = 0.003
"""Seconds between two looks at what has no descriptor to wait for, such as a socket table."""


class Watched(Protocol):
    """Something whose news arrives on descriptors."""

    def descriptors(self) -> list[int]:
        """What becomes readable when there is news; what has closed is not in the list."""

    def drain(self) -> None:
        """Take in all news without blocking."""


def wait_until(
    condition: Callable[[], T | None],
    watched: Iterable[Watched] = (),
    *,
    timeout: float,
    what: str,
    polling: bool = False,
) -> T:
    """Wait until `condition()` is true and return what it gave.

    It is asked again whenever one of `watched` has news, and with `polling` every few milliseconds.
    Raises TimedOut with `what` after `timeout` seconds.
    """
    watched = list(watched)
    deadline = time.monotonic() + timeout
    while True:
        for one in watched:
            one.drain()
        if result := condition():
            return result
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimedOut(f"{what} (waited {timeout:g} s)")
        poll = select.poll()
        for one in watched:
            for descriptor in one.descriptors():
                poll.register(descriptor, select.POLLIN)
        poll.poll(max(1, 1000 * (min(left, RECHECK) if polling else left)))
