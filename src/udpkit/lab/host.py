"""One host of a lab: a network namespace with everything Linux has in it."""

from __future__ import annotations

import os
import select
import shlex
import socket
import time
from dataclasses import replace

from udpkit.evidence import proc_net_udp, proc_net_waiting_ports, socket_owners
from udpkit.evidence.programs import NOT_FOUND
from udpkit.facts import SocketEntry, SocketTable
from udpkit.lab.capture import Capture
from udpkit.lab.control import Control, why_unavailable
from udpkit.lab.errors import CommandFailed, LabError, LabUnavailable, ProgramMissing
from udpkit.lab.program import Program
from udpkit.lab.waiting import wait_until


class Host:
    """Made by `Lab.host`. What is set up on it is gone with the lab; nothing needs to be undone."""

    def __init__(self, control: Control, name: str) -> None:
        self.name = name
        self._control = control
        try:
            answer, _ = control.ask("host")
        except OSError as error:
            raise LabUnavailable(why_unavailable(error)) from error
        self._number: int = answer["host"]
        self.namespace = f"/proc/{control.pid}/fd/{answer['descriptor']}"
        """The network namespace as a path: `ip link set … netns PATH`, and for root `nsenter --net=PATH`."""
        self._bridges: set[str] = set()
        self._open: list[Program | Capture] = []
        self.ip("link set lo up")

    def bridge(self, name: str, *addresses: str) -> None:
        """Make a bridge. Links whose end names it become its ports."""
        self.ip(f"link add name {name} type bridge")
        self._bridges.add(name)
        self.address(name, *addresses)

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface addresses (`172.17.0.1/16`, `fd00::1/64`) and bring it up."""
        for address in addresses:
            # Duplicate address detection would hold an IPv6 address back for a second (RFC 4862, 5.4).
            nodad = "nodad" if ":" in address else ""
            self.ip(f"address add {address} dev {interface} {nodad}")
        self.ip(f"link set dev {interface} up")

    def ip(self, arguments: str) -> str:
        """Run ip(8) here: `host.ip("route add default via 172.17.0.1")`. Returns what it printed."""
        return self._complete(["ip", *shlex.split(arguments)])

    def shell(self, line: str) -> str:
        """Run a shell line here and return what it printed. Raises CommandFailed with its errors."""
        return self._complete(["sh", "-c", line])

    def sysctl(self, name: str, value: object) -> None:
        """Set a sysctl of this host's: `host.sysctl("net.ipv4.ip_forward", 1)`.

        With slashes instead of dots the names of interfaces may have dots.
        """
        path = f"/proc/sys/{name if '/' in name else name.replace('.', '/')}"
        try:
            with os.fdopen(self._file(path, os.O_WRONLY), "w") as file:
                file.write(str(value))
        except OSError as error:
            raise CommandFailed(f"{self.name}: sysctl {name}={value}: {error.strerror}") from error

    def read(self, path: str) -> str:
        """The text of a file as a process on this host sees it (`/proc/net/udp`)."""
        with os.fdopen(self._file(path, os.O_RDONLY)) as file:
            return file.read()

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives on this host but is used from here. The caller closes it."""
        _, [descriptor] = self._control.ask(
            "socket", host=self._number, family=int(family), kind=int(kind), protocol=protocol
        )
        return socket.socket(fileno=descriptor)

    def run(self, *argv: str) -> Program:
        """Start a program. It ends with the lab at the latest. Raises ProgramMissing, CommandFailed."""
        program = Program(self._control, self._number, argv)
        self._open.append(program)
        return program

    def attached(self, *argv: str) -> int:
        """Run a program with our own standard input, output and errors, to its end; answers its exit status.

        Raises ProgramMissing, CommandFailed.
        """
        pid, ends = self._control.spawn(self._number, argv, 0, 1, 2)
        try:
            select.select([ends], [], [])
        finally:
            os.close(ends)
        status: int = self._control.ask("status", pid=pid)[0]["status"]
        return status

    def capture(self, interface: str) -> Capture:
        """Capture what crosses one of this host's interfaces from now on."""
        packet_socket = self.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            capture = Capture(packet_socket, f"{self.name}.{interface}", interface)
        except OSError as error:
            packet_socket.close()
            raise LabError(f"{self.name}.{interface} cannot be captured: {error.strerror}") from error
        self._open.append(capture)
        return capture

    def udp_sockets(self, source: int = 0) -> SocketTable:
        """This host's UDP sockets at this moment, from the kernel's tables.

        IPv4 first, by port, address and peer: the kernel's order is that of a hash with a secret of each
        network namespace.
        """
        text = self._table("udp") + self._table("udp6")
        table = proc_net_udp(text, socket_owners(), source=source, host=self.name, time_ns=time.time_ns())
        return replace(table, entries=sorted(table.entries, key=_by_port))

    def wait_for_port(self, port: int, program: Program | None = None, timeout: float = 20) -> None:
        """Wait until something here has a UDP socket on `port`, or a TCP socket that listens on it.

        Raises TimedOut, and CommandFailed as soon as `program` ends before that.
        """

        def is_open() -> bool:
            tables = ("udp", "udp6", "tcp", "tcp6")
            if any(port in proc_net_waiting_ports(self._table(table)) for table in tables):
                return True
            if program and program.status is not None:
                raise CommandFailed(f"{self.name}: {shlex.join(program.argv)}: {program.last_words()}")
            return False

        wait_until(
            is_open,
            [program] if program else [],
            timeout=timeout,
            what=f"nothing on host {self.name} opened port {port}",
            polling=True,
        )

    def _table(self, name: str) -> str:
        try:
            return self.read(f"/proc/net/{name}")
        except FileNotFoundError:  # a kernel without IPv6
            return ""

    def has_bridge(self, name: str) -> bool:
        return name in self._bridges

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _file(self, path: str, flags: int) -> int:
        _, [descriptor] = self._control.ask("open", host=self._number, path=path, flags=flags)
        return descriptor

    def fed(self, text: str, *argv: str, timeout: float = 10) -> Program:
        """Run a program with `text` as its input, to its end. Raises as `run`, and TimedOut."""
        program = Program(self._control, self._number, argv)
        try:
            program.type(text.encode())
            program.close_input()
            program.wait(timeout)
        finally:
            program.close()
        return program

    def _complete(self, argv: list[str]) -> str:
        program = self.fed("", *argv)
        status = program.status
        if status == 127 and (missing := NOT_FOUND.search(program.last_words())):
            raise ProgramMissing(missing[1])
        if status != 0:
            line = argv[2] if argv[0] == "sh" else shlex.join(argv)
            raise CommandFailed(f"{self.name}: {line}: {program.last_words()}")
        return program.output.decode(errors="replace")


def _by_port(entry: SocketEntry) -> tuple[int, int, str, str]:
    local = entry.local
    return local.address.version, local.port, str(local.address), str(entry.peer)
