"""Every UDP socket of a namespace, with its options, which its program is not asked for.

/proc/net/udp is there in every kernel and every container, and 10,000 sockets are read from it in 0.1 s;
sock_diag(7), which needs the module udp_diag, would add IPV6_V6ONLY and nothing else that matters here. The
options come from the socket itself: pidfd_getfd(2) duplicates the descriptor, getsockopt(2) changes nothing.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from udpkit.evidence.namespaces import container
from udpkit.evidence.owners import Holder
from udpkit.evidence.proc_net import proc_net_udp
from udpkit.facts import SocketEntry, SocketTable

PIDFD_GETFD = 438
"""The number of the system call, the same on every machine but alpha."""

BOTH = {
    "IP_PKTINFO": (socket.IPPROTO_IP, 8),
    "IP_RECVORIGDSTADDR": (socket.IPPROTO_IP, 20),
    "IP_RECVERR": (socket.IPPROTO_IP, 11),
    "SO_REUSEPORT": (socket.SOL_SOCKET, socket.SO_REUSEPORT),
    "SO_MARK": (socket.SOL_SOCKET, socket.SO_MARK),
    "SO_RCVBUF": (socket.SOL_SOCKET, socket.SO_RCVBUF),
}
SIX_ONLY = {
    "IPV6_RECVPKTINFO": (socket.IPPROTO_IPV6, 49),
    "IPV6_RECVORIGDSTADDR": (socket.IPPROTO_IPV6, 74),
    "IPV6_RECVERR": (socket.IPPROTO_IPV6, 25),
    "IPV6_V6ONLY": (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY),
}
"""Options by name, as (level, number): linux/in.h, linux/in6.h. A socket of IPv6 has both kinds."""
OPTIONS = {4: BOTH, 6: BOTH | SIX_ONLY}

INTERFACE_NAME = 16
"""IFNAMSIZ, linux/if.h."""


def host_sockets(holders: Mapping[int, Holder], *, source: int = 0, host: str = "") -> SocketTable:
    """The UDP sockets of the namespace that the calling thread is in (`namespaces.inside`).

    What we may not look at is None, empty or missing.
    """
    table = proc_net_udp(_table("udp") + _table("udp6"), {}, source=source, host=host, time_ns=time.time_ns())
    return replace(table, entries=_with_holders(table.entries, holders))


def _table(name: str) -> str:
    with suppress(FileNotFoundError):  # a kernel without IPv6
        return Path(f"/proc/thread-self/net/{name}").read_text()
    return ""


def _with_holders(entries: Iterable[SocketEntry], holders: Mapping[int, Holder]) -> list[SocketEntry]:
    processes: dict[int, _Process] = {}
    complete: list[SocketEntry] = []
    try:
        for entry in entries:
            holder = holders.get(entry.inode or 0)
            if holder is None:
                complete.append(entry)
                continue
            process = processes.get(holder.pid) or processes.setdefault(holder.pid, _Process(holder.pid))
            options, device = process.options(holder.descriptor, entry)
            complete.append(
                replace(
                    entry,
                    process=holder.name,
                    pid=holder.pid,
                    container=process.container,
                    options=options,
                    device=device,
                    names_port=str(entry.local.port) in process.numbers,
                    names_peer=entry.peer is not None and str(entry.peer.port) in process.numbers,
                )
            )
    finally:
        for process in processes.values():
            process.close()
    return complete


class _Process:
    """What is the same for all sockets of a process."""

    def __init__(self, pid: int) -> None:
        self.container = container(pid)
        self.numbers: set[str] = set()
        self._pidfd = -1
        with suppress(OSError):
            self.numbers = set(re.findall(r"\d+", Path(f"/proc/{pid}/cmdline").read_text(errors="replace")))
        with suppress(OSError, IndexError):  # gone, or of another namespace than ours
            self._pidfd = os.pidfd_open(_number(pid))

    def options(self, descriptor: int, entry: SocketEntry) -> tuple[dict[str, int], str]:
        """The options of a socket, and the interface it is bound to; empty where we may not look."""
        number = _pidfd_getfd(self._pidfd, descriptor) if self._pidfd >= 0 else -1
        if number < 0:
            return {}, ""
        if os.fstat(number).st_ino != entry.inode:
            os.close(number)
            return {}, ""  # closed meanwhile, and its number used again, for a file maybe
        with socket.socket(fileno=number) as twin:
            found: dict[str, int] = {}
            for name, (level, option) in OPTIONS[entry.local.address.version].items():
                with suppress(OSError):
                    found[name] = twin.getsockopt(level, option)
            device = twin.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE_NAME)
            return found, device.partition(b"\0")[0].decode(errors="replace")

    def close(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)


def _number(pid: int) -> int:
    """What we call a process that /proc calls `pid`: another number where /proc is an outer PID namespace's.

    NSpid in proc_pid_status(5) has a process's numbers from that namespace inwards.
    """
    depth = len(_numbers("self")) - 1
    return _numbers(str(pid))[depth] if depth else pid


def _numbers(pid: str) -> list[int]:
    """Raises OSError."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("NSpid:"):
            return [int(number) for number in line.split()[1:]]
    raise ProcessLookupError(pid)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _pidfd_getfd(pidfd: int, descriptor: int) -> int:
    """A duplicate of another process's descriptor, closed on exec; negative where the kernel refuses."""
    return int(_libc().syscall(PIDFD_GETFD, pidfd, descriptor, 0))
