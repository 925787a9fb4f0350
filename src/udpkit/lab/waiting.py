"""Waiting on conditions, never on the clock alone."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from udpkit.lab.errors import GivenUp, TimedOut

T = TypeVar("T")

RECHECK = 0.003
"""Seconds between two looks at what has no descriptor to wait for, such as a socket table."""


class Watched(Protocol):
    """Something whose news arrives on descriptors."""

    def descriptors(self) -> list[int]:
        """What becomes readable when there is news; what has closed is not in the list."""

    def drain(self) -> None:
        """Take in all news without blocking."""


class Cancel:
    """Watched beside what is waited for, it ends the waiting of other threads; a context manager."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe2(os.O_CLOEXEC)
        self._is_given_up = False

    def now(self) -> None:
        self._is_given_up = True
        os.write(self._writes, b"1")

    def descriptors(self) -> list[int]:
        return [self._reads]

    def drain(self) -> None:
        """Raises GivenUp."""
        if self._is_given_up:
            raise GivenUp("nobody waits for it any more")

    def __enter__(self) -> Cancel:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._reads)
        os.close(self._writes)


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
