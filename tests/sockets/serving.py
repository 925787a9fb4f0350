"""Running the servers of flavours.py on lab hosts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from udpkit.lab import Host, Program, wait_until

from . import flavours


@contextmanager
def serving(host: Host, flavour: str, address: str, port: int, *slowly: str) -> Iterator[Program]:
    """A server that can be asked. It must not end, nor complain, before its time."""
    program = host.run(sys.executable, "-I", flavours.__file__, flavour, address, str(port), *slowly)
    wait_until(
        lambda: program.output or program.status is not None,
        [program],
        timeout=20,
        what=f"the {flavour} server did not get ready",
    )
    says = b"bound\n" if slowly else b"ready\n"
    assert (program.output, program.status) == (says, None), program.errors.decode()
    try:
        yield program
        program.drain()
        assert (program.errors.decode(), program.status) == ("", None)
    finally:
        program.stop()


@contextmanager
def standing_still(program: Program | subprocess.Popen[str]) -> Iterator[None]:
    """What arrives meanwhile waits in its socket."""
    pid = program.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        status = Path(f"/proc/{pid}/stat")
        wait_until(
            lambda: status.read_text().rpartition(")")[2].split()[0] == "T",
            timeout=20,
            what="the server did not stop",
            polling=True,
        )
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def waiting_bytes(host: Host, port: int) -> int:
    """What has arrived for the dual-stack sockets on this port and was not yet received (proc_pid_net(5))."""
    sockets = [line.split() for line in host.read("/proc/net/udp6").splitlines()[1:]]
    return sum(
        int(queues.partition(":")[2], 16)
        for _, local, _, _, queues, *_ in sockets
        if int(local.rpartition(":")[2], 16) == port
    )


TENTATIVE = 0x40  # IFA_F_TENTATIVE, linux/if_addr.h


def wait_for_addresses(*hosts: Host) -> None:
    """Until their IPv6 addresses can be asked: the kernel adds the local route a moment after the address.

    Not for a /128: its prefix's route looks the same.
    """

    def are_there() -> bool:
        for host in hosts:
            addresses = [line.split() for line in host.read("/proc/net/if_inet6").splitlines()]
            usable = {address for address, _, _, _, flags, _ in addresses if not int(flags, 16) & TENTATIVE}
            routes = [line.split() for line in host.read("/proc/net/ipv6_route").splitlines()]
            if usable - {destination for destination, length, *_ in routes if length == "80"}:
                return False
        return True

    wait_until(are_there, timeout=20, what="an address has no local route", polling=True)
