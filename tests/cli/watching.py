"""A running `udpkit watch`, and what it tells."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.command import TIMEOUT, UDPKIT, environment
from udpkit.lab import Host, wait_until

Read = Callable[[str], str]
"""The text of a file, as a process in the namespace that is watched sees it."""


class Watch:
    """A context manager, which ends it."""

    def __init__(self, read: Read, *arguments: str | Path, **env: str) -> None:
        before = captures(read)
        self.process = subprocess.Popen(
            [UDPKIT, "watch", "--json", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**env),
        )
        self.findings: list[dict[str, Any]] = []
        self.rest = b""
        wait_until(
            lambda: captures(read) > before,
            timeout=TIMEOUT,
            what="no packet socket was opened",
            polling=True,
        )

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, enough: Callable[[set[str]], bool]) -> None:
        """Take findings until their codes are enough."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + 20
        while not enough({finding["code"] for finding in self.findings}):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))
            assert ready, ([finding["summary"] for finding in self.findings], self.end())
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            assert data, (self.findings, self.process.communicate()[1])
            *lines, self.rest = (self.rest + data).split(b"\n")
            for document in map(json.loads, lines):
                assert document["schema"] == 1
                self.findings += document["findings"]

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, errors

    def of(self, code: str) -> dict[str, Any]:
        return next(finding for finding in self.findings if finding["code"] == code)


def captures(read: Read) -> int:
    """How many packet sockets run there, which one does once it is bound."""
    return sum(line.split()[5] == "1" for line in read("/proc/net/packet").splitlines()[1:])


@contextmanager
def watch(host: Host, *arguments: str | Path) -> Iterator[Watch]:
    with Watch(host.read, "--netns", host.namespace, *arguments) as running:
        yield running
