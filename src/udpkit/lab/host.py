"""One host of a lab: a network namespace with everything Linux has in it."""

from __future__ import annotations

import os
import shlex
import socket
import time

from udpkit.evidence import proc_net_udp, proc_net_waiting_ports, socket_owners
from udpkit.facts import SocketTable
from udpkit.lab.capture import ETH_P_ALL, Capture
from udpkit.lab.control import Control
from udpkit.lab.errors import CommandFailed, ProgramMissing
from udpkit.lab.program import Program
from udpkit.lab.waiting import wait_until


class Host:
    """Made by `Lab.host`. What is set up on it is gone with the lab; nothing needs to be undone."""

    def __init__(self, control: Control, name: str) -> None:
        self.name = name
        self._control = control
        answer, _ = control.ask("host")
        self._number: int = answer["host"]
        self.namespace = f"/proc/{control.pid}/fd/{answer['descriptor']}"
        """The network namespace as a path, as in `nsenter --net=PATH` and `ip link set … netns PATH`."""
        self._bridges: set[str] = set()
        self._open: list[Program | Capture] = []
        # Duplicate address detection would hold every IPv6 address back for a second (RFC 4862, 5.4).
        self.sysctl("net.ipv6.conf.default.accept_dad", 0)
        self.ip("link set lo up")

    def bridge(self, name: str, *addresses: str) -> None:
        """Make a bridge. Links whose end names it become its ports."""
        self.ip(f"link add {name} type bridge")
        self._bridges.add(name)
        self.address(name, *addresses)

    def address(self, interface: str, *addresses: str) -> None:
        """Give an interface addresses (`172.17.0.1/16`, `fd00::1/64`) and bring it up."""
        for address in addresses:
            self.ip(f"address add {address} dev {interface}")
        self.ip(f"link set {interface} up")

    def ip(self, arguments: str) -> str:
        """Run ip(8) here: `host.ip("route add default via 172.17.0.1")`. Returns what it printed."""
        return self._complete(["ip", *shlex.split(arguments)])

    def shell(self, line: str) -> str:
        """Run a shell line here and return what it printed. Raises CommandFailed with its errors."""
        return self._complete(["sh", "-c", line])

    def sysctl(self, name: str, value: object) -> None:
        """Set a sysctl of this host's: `host.sysctl("net.ipv4.ip_forward", 1)`."""
        path = f"/proc/sys/{name.replace('.', '/')}"
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
        """Start a program. It ends with the lab at the latest. Raises ProgramMissing."""
        program = Program(self._control, self._number, argv)
        self._open.append(program)
        return program

    def capture(self, interface: str) -> Capture:
        """Capture what crosses one of this host's interfaces from now on."""
        packet_socket = self.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        capture = Capture(packet_socket, f"{self.name}.{interface}", interface)
        self._open.append(capture)
        return capture

    def udp_sockets(self, source: int = 0) -> SocketTable:
        """This host's UDP sockets at this moment, from the kernel's tables."""
        text = self.read("/proc/net/udp") + self.read("/proc/net/udp6")
        return proc_net_udp(text, socket_owners(), source=source, time_ns=time.time_ns())

    def wait_for_port(self, port: int, timeout: float = 5) -> None:
        """Wait until a program here has a UDP socket on `port`, or a TCP socket that listens on it."""
        wait_until(
            lambda: any(
                port in proc_net_waiting_ports(self.read(f"/proc/net/{table}"))
                for table in ("udp", "udp6", "tcp", "tcp6")
            ),
            timeout=timeout,
            what=f"nothing on host {self.name} opened port {port}",
            polling=True,
        )

    def has_bridge(self, name: str) -> bool:
        return name in self._bridges

    def close(self) -> None:
        while self._open:
            self._open.pop().close()

    def _file(self, path: str, flags: int) -> int:
        _, [descriptor] = self._control.ask("open", host=self._number, path=path, flags=flags)
        return descriptor

    def _complete(self, argv: list[str]) -> str:
        program = Program(self._control, self._number, argv)
        try:
            program.close_input()
            status = program.wait()
        finally:
            program.close()
        output, errors = (bytes(text).decode(errors="replace") for text in (program.output, program.errors))
        if status == 127 and argv[0] == "sh":
            raise ProgramMissing(errors.split(":")[-2].strip())
        if status != 0:
            line = argv[2] if argv[0] == "sh" else shlex.join(argv)
            reason = (errors or output).strip().splitlines() or [f"exit status {status}"]
            raise CommandFailed(f"{self.name}: {line}: {reason[-1]}")
        return output
