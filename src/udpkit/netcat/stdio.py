"""Standard input and output as descriptors: bytes, partial writes, no text layer."""

from __future__ import annotations

import os
import re
import select
import time

from udpkit.netcat.plan import CHUNK, Plan, Trouble

STDIN, STDOUT = 0, 1


class Input:
    """What is to be sent. poll(2) is for it: epoll(7) knows no regular files."""

    def __init__(self, plan: Plan) -> None:
        self.ended = not plan.stdin
        self._interval = plan.interval
        self._crlf = plan.crlf
        self._last = b""
        self._lines = b""
        self._next = 0.0

    def wait(self) -> float | None:
        """Seconds until something can be taken; None when stdin has to be polled for that."""
        early = self._next - time.monotonic()
        return max(early, 0.0) if early > 0 or self._lines else None

    def take(self) -> bytes:
        """Up to `CHUNK` bytes, with an interval a line; empty if there are none, or `ended`."""
        if not self._lines:
            try:
                self._lines = self._translated(os.read(STDIN, CHUNK))
            except BlockingIOError:  # somebody made it non-blocking
                return b""
            except OSError as error:
                raise Trouble(f"standard input: {error.strerror}") from None
            self.ended = not self._lines
        end = self._lines.find(b"\n") + 1 if self._interval is not None else 0
        taken, self._lines = self._lines[: end or CHUNK], self._lines[end or CHUNK :]
        if taken and self._interval is not None:
            self._next = time.monotonic() + self._interval
        return taken

    def _translated(self, data: bytes) -> bytes:
        if not self._crlf:
            return data
        before, self._last = self._last, b"\r" if data.endswith(b"\r") else b""
        return re.sub(rb"(?<!\r)\n", b"\r\n", before + data)[len(before) :]


def write_out(data: bytes) -> None:
    """Write all of it to stdout, however slow the reader is."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(STDOUT, left) :]
        except BlockingIOError:  # somebody made it non-blocking
            poll = select.poll()
            poll.register(STDOUT, select.POLLOUT)
            poll.poll()
