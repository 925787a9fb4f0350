"""A real program on a lab host, with its standard input and output."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from pathlib import Path

from udpkit.lab.control import Control
from udpkit.lab.waiting import wait_until

LARGEST_OUTPUT = 16 << 20
"""Bytes kept of what a program prints; the rest is read and dropped, so that it cannot fill our memory."""


class Program:
    """Started by `Host.run`. What it prints is collected in `output` and `errors` (bytes)."""

    def __init__(self, control: Control, host: int, argv: Sequence[str]) -> None:
        self.argv = list(argv)
        self.output = bytearray()
        self.errors = bytearray()
        self.status: int | None = None
        self._control = control
        stdin, self._stdin = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._stdin, False)
        stdout_read, stdout = os.pipe2(os.O_CLOEXEC)
        stderr_read, stderr = os.pipe2(os.O_CLOEXEC)
        for ours in (stdout_read, stderr_read):
            os.set_blocking(ours, False)
        self._readers = {stdout_read: self.output, stderr_read: self.errors}
        try:
            self._pid, self._pidfd = control.spawn(host, self.argv, stdin, stdout, stderr)
        except BaseException:
            self._close(self._stdin, *self._readers)
            raise
        finally:
            self._close(stdin, stdout, stderr)

    @property
    def pid(self) -> int:
        """Its process number as this machine sees it; inside the lab it has another."""
        fields = Path(f"/proc/self/fdinfo/{self._pidfd}").read_text().split()
        return int(fields[fields.index("Pid:") + 1])

    def type(self, data: bytes, timeout: float = 10) -> bool:
        """Write to its standard input; False if it is closed. Raises TimedOut if it does not read on."""
        left = memoryview(data)

        def all_is_written() -> bool:
            nonlocal left
            try:
                while left:
                    left = left[os.write(self._stdin, left) :]
            except BlockingIOError:
                return False
            return True

        try:
            what = f"{self.argv[0]} did not read what was typed"
            return wait_until(all_is_written, [self], timeout=timeout, what=what, polling=True)
        except BrokenPipeError:
            return False

    def close_input(self) -> None:
        """Give it the end of its standard input."""
        self._close(self._stdin)
        self._stdin = -1

    def wait(self, timeout: float = 10) -> int:
        """Wait until it has ended; returns its exit status, negative for a signal. Raises TimedOut."""
        wait_until(
            lambda: self.status is not None, [self], timeout=timeout, what=f"{self.argv[0]} did not end"
        )
        assert self.status is not None  # noqa: S101 - the condition above
        return self.status

    def last_words(self) -> str:
        """The last line of its errors, else of its output, else its exit status."""
        lines = (self.errors or self.output).decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.status}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and what it started, and wait until it has ended; returns its exit status."""
        if self.status is None:
            self._control.ask("signal", pid=self._pid, number=number)
        return self.wait()

    def descriptors(self) -> list[int]:
        return [*self._readers, *([self._pidfd] if self.status is None else [])]

    def drain(self) -> None:
        ended = self.status is None and self._has_ended()  # asked first: its last words are then in the pipe
        for descriptor, kept in list(self._readers.items()):
            try:
                while data := os.read(descriptor, 1 << 16):
                    kept.extend(data[: LARGEST_OUTPUT - len(kept)])
            except BlockingIOError:
                continue
            self._close(descriptor)
            del self._readers[descriptor]
        if ended:
            self.status = self._control.ask("status", pid=self._pid)[0]["status"]

    def _has_ended(self) -> bool:
        # waitid(2) is for the parent alone; a pidfd is readable once its process has ended (pidfd_open(2)).
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Let go of it; it ends with the lab."""
        self._close(self._stdin, *self._readers, self._pidfd)
        self._readers.clear()
        self._stdin = self._pidfd = -1

    @staticmethod
    def _close(*descriptors: int) -> None:
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)
