"""A server on its lab host: started, found, watched, and started again where it needs that."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from udpkit.evidence import proc_net_udp
from udpkit.evidence.programs import find
from udpkit.facts import Endpoint, SocketEntry
from udpkit.facts.text import in_one_line
from udpkit.lab.errors import LabError, ProgramMissing, TimedOut
from udpkit.lab.host import Host
from udpkit.lab.keeper import can_make_hosts
from udpkit.lab.multihomed.matrix import How
from udpkit.lab.multihomed.traced import under_strace, ways
from udpkit.lab.waiting import wait_until

START = 20.0
"""Seconds in which a server opens its port."""
SETTLED = 0.3
"""Seconds after which a server that opens no more sockets has opened all."""
ONLY_CLIENT_PORTS = 2.0
"""Seconds after which ports that the kernel chose are taken for the server's."""
BACK = 0.2
"""Seconds in which a server that hands its socket to a child has opened the next one."""
LEFT_A_CHILD = 3.0
"""Seconds in which the child of a server that has ended well opens its port."""
MOST_PORTS = 4
LONGEST_WORDS = 300


class ServerEnded(LabError):
    """The server ended before it had a UDP port; the message has its last words."""


class NoPort(LabError):
    """The server opened no UDP port in time."""


class Serving:
    """One server. `wanted` are its ports, if they are named; else it is looked for."""

    def __init__(self, host: Host, command: Sequence[str], wanted: Sequence[int], *, trace: bool) -> None:
        if find(command[0]) is None:
            raise ProgramMissing(command[0])
        self.host = host
        self.command = list(command)
        self.wanted = list(wanted)
        self.trace = trace and find("strace") is not None
        self.ways: dict[int, How] = {}
        """How it answered, by the clients' ports; of those that have ended."""
        self.left_out: list[int] = []
        """Ports of its that are too many."""
        self._first: dict[int, set[Endpoint]] = {}
        self._tables = [name for name in ("udp", "udp6") if Path(f"/proc/net/{name}").exists()]
        self.start()

    def start(self) -> None:
        argv = under_strace(self.command) if self.trace else self.command
        self.program = self.host.run(*argv)
        self._seen_ended = 0.0

    def sockets(self) -> list[SocketEntry]:
        """Those that wait for strangers; not whose they are, which takes a look at every process."""
        text = "".join(self.host.read(f"/proc/net/{name}") for name in self._tables)
        return [one for one in proc_net_udp(text, {}, source=0).entries if one.peer is None]

    def process(self, port: int) -> str:
        """The name of the program that waits on this port, empty if nobody knows."""
        entries = self.host.udp_sockets().entries
        return next((one.process for one in entries if one.local.port == port and one.process), "")

    def wait_for_ports(self) -> list[int]:
        """Until it has opened its ports, and opens no more. Raises ServerEnded, NoPort."""
        began = changed = time.monotonic()
        seen: set[Endpoint] = set()
        first_client_port = self._first_client_port()

        def served() -> list[int]:
            ports = {one.port for one in seen}
            if self.wanted:
                return self.wanted if ports >= set(self.wanted) else []
            chosen = [port for port in ports if port < first_client_port]
            long_enough = time.monotonic() - began > ONLY_CLIENT_PORTS
            return sorted(chosen or (ports if long_enough else ()))

        def ready() -> bool:
            nonlocal changed, seen
            now = {one.local for one in self.sockets()}
            if now != seen:
                seen, changed = now, time.monotonic()
            if served():
                return time.monotonic() - changed > SETTLED
            self._complain_if_ended()
            return False

        self._wait(ready, START)
        most = len(self.wanted) or MOST_PORTS
        ports, self.left_out = served()[:most], served()[most:]
        self._first = {port: {one for one in seen if one.port == port} for port in ports}
        return ports

    def wait_for_socket(self, port: int) -> None:
        """Until it has a UDP or a TCP socket on this port: a server whose client says over TCP what is next.

        Raises ServerEnded, NoPort.
        """
        try:
            self.host.wait_for_port(port, None, timeout=START)
        except TimedOut as late:
            self._complain_if_ended()
            raise NoPort(f"the server opened no port {port} within {START:g} s") from late
        self._first[port] = {one.local for one in self.sockets() if one.local.port == port}

    def first(self, port: int) -> set[Endpoint]:
        """Where it waited on this port at first."""
        return self._first.get(port, set())

    def is_back(self, port: int) -> bool:
        """Its sockets on this port are as they were at first; of one that waits over TCP, that it runs."""
        if not self.first(port):
            return self.program.status is None
        return self.first(port) <= {one.local for one in self.sockets()}

    def come_back(self, port: int, *, patience: float = BACK) -> bool:
        """Wait a little for that; False if it was not to be."""
        try:
            wait_until(
                lambda: self.is_back(port) or self.program.status is not None,
                [self.program],
                timeout=patience,
                what="",
                polling=True,
            )
        except TimedOut:
            return False
        return self.is_back(port)

    def start_again(self, port: int) -> None:
        """Raises ServerEnded, NoPort."""
        self.stop()
        self.start()

        def ready() -> bool:
            if not self.is_back(port):
                self._complain_if_ended()
                return False
            return True

        self._wait(ready, START)

    def stop(self) -> None:
        """End it, and read strace's log."""
        try:
            self.program.stop()
        except TimedOut:
            self.program.stop(9)
        if self.trace:
            self.ways |= ways(bytes(self.program.output))

    def ended(self) -> str:
        """Its last words in one line if it has ended, else nothing."""
        status = self.program.status
        if status is None:
            return ""
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        program = self.program
        said = program.errors if self.trace else program.errors or program.output
        lines = [line for line in said[-4096:].decode(errors="replace").splitlines() if line.strip()]
        words = f": {in_one_line(lines[-1].strip())[:LONGEST_WORDS]}" if lines else ""
        return f"{how}{words}"

    def _complain_if_ended(self) -> None:
        self.program.drain()
        status = self.program.status
        if status is None:
            return
        # Without strace, which stays as long as any child, it may have left one that runs.
        self._seen_ended = self._seen_ended or time.monotonic()
        if status == 0 and not self.trace and time.monotonic() - self._seen_ended < LEFT_A_CHILD:
            return
        hint = (
            ""
            if can_make_hosts()
            else "; without root there is but one user here: a server that becomes another one needs root"
        )
        raise ServerEnded(
            f"the server ended before it opened a UDP port ({in_one_line(shlex.join(self.command))}): "
            f"{self.ended()}{hint}"
        )

    def _wait(self, ready: Callable[[], bool], timeout: float) -> None:
        try:
            wait_until(ready, [self.program], timeout=timeout, what="", polling=True)
        except TimedOut as late:
            port = f"UDP port {self.wanted[0]}" if self.wanted else "UDP port"
            raise NoPort(f"the server opened no {port} within {timeout:g} s") from late

    def _first_client_port(self) -> int:
        return int(self.host.read("/proc/sys/net/ipv4/ip_local_port_range").split()[0])
