"""The process that keeps a lab's hosts alive, and takes them with it when it ends.

Theory of operation. The owner of a lab starts this file as a child and talks to it over one
SOCK_SEQPACKET socket: a request is a JSON object with an `op`, an answer is a JSON object, file
descriptors travel beside either (SCM_RIGHTS). The child makes a PID namespace (and, without privilege, a
user namespace) and forks; the fork is that namespace's init. It holds each host's network namespace as an
open descriptor and nothing else refers to them. So when the socket closes, because the owner closed it or
because the kernel did after a SIGKILL, init exits, the kernel kills every process of the PID namespace
(pid_namespaces(7)), the descriptors close, and the network namespaces with all links, addresses and rules
are gone. Nothing is ever written to the file system.

The descriptors handed out stay useful to the unprivileged owner: it owns the user namespace and so has
every capability in it (user_namespaces(7)).
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from udpkit._native import CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUSER, setns, unshare

Answer = tuple[dict[str, Any], list[int]]
CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN = 12, 13, 21  # linux/capability.h
LARGEST_REQUEST = 1 << 17
"""Bytes: the longest argument that execve(2) takes (MAX_ARG_STRLEN)."""
LONGEST_PATH = 4096
"""Of a path that is longer the kernel says just that (PATH_MAX); an answer has to fit into one message."""


def main(control: socket.socket, user_namespace: bool) -> None:
    """Make the namespaces, say over `control` whether that worked, then serve until it closes."""
    try:
        isolate(user_namespace)
    except OSError as error:
        send(control, refusal(error))
        return
    if pid := os.fork():
        control.close()
        os.waitpid(pid, 0)
        return
    with suppress(BrokenPipeError, ConnectionResetError):  # the owner went while an answer was on its way
        Keeper(control).serve()


def isolate(user_namespace: bool) -> None:
    """Make a PID namespace for the children; in a user namespace if asked or where privilege is missing."""
    if can_make_hosts() and not user_namespace:
        unshare(CLONE_NEWPID)
    else:
        uid, gid = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER | CLONE_NEWPID)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def can_make_hosts() -> bool:
    """Do we have what namespaces, links and packet sockets take (capabilities(7))?"""
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return all(effective & 1 << capability for capability in (CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN))


class Keeper:
    """Serves one owner. Each operation is a method `do_…` that takes the request's keys as arguments."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.namespaces: list[int] = []
        self.programs: dict[int, subprocess.Popen[bytes]] = {}
        self.received: list[int] = []

    def serve(self) -> None:
        """Answer requests until the owner has gone."""
        # /proc shows this process under the number it has outside: other hosts' tools need that one.
        send(self.control, {"pid": int(Path("/proc/self").readlink().name)})
        while True:
            message, self.received, _, _ = socket.recv_fds(self.control, LARGEST_REQUEST, 3)
            if not message:
                return
            request = json.loads(message)
            operation: Callable[..., Answer] = getattr(self, f"do_{request.pop('op')}")
            try:
                answer, descriptors = operation(**request)
            except OSError as error:
                answer, descriptors = refusal(error), []
            except ValueError as error:  # such as a NUL in an argument
                answer, descriptors = refusal(OSError(errno.EINVAL, str(error))), []
            send(self.control, answer, descriptors)
            for descriptor in [*self.received, *descriptors]:
                os.close(descriptor)
            if descriptors:  # only now does it close when the owner closes it
                send(self.control, {})

    def do_host(self) -> Answer:
        """Make a network namespace; answers its number and the descriptor that holds it."""
        unshare(CLONE_NEWNET)
        namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.namespaces.append(namespace)
        return {"host": len(self.namespaces) - 1, "descriptor": namespace}, []

    def do_socket(self, host: int, family: int, kind: int, protocol: int) -> Answer:
        """Open a socket on a host."""
        self.enter(host)
        return {}, [socket.socket(family, kind, protocol).detach()]

    def do_open(self, host: int, path: str, flags: int) -> Answer:
        """Open a file as a process on that host sees it (/proc/net and /proc/sys/net differ by host)."""
        self.enter(host)
        return {}, [os.open(path, flags | os.O_CLOEXEC)]

    def do_spawn(self, host: int, argv: list[str]) -> Answer:
        """Run a program on a host, with the three descriptors that came along as its standard ones."""
        self.enter(host)
        stdin, stdout, stderr = self.received
        program = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=stderr, start_new_session=True)
        self.programs[program.pid] = program
        return {"pid": program.pid}, [os.pidfd_open(program.pid)]

    def do_signal(self, pid: int, number: int) -> Answer:
        """Signal a program and what it started."""
        os.killpg(pid, number)
        return {}, []

    def do_status(self, pid: int) -> Answer:
        """Wait for a program; answers its exit status, negative for a signal."""
        return {"status": self.programs.pop(pid).wait()}, []

    def enter(self, host: int) -> None:
        setns(self.namespaces[host], CLONE_NEWNET)


def send(control: socket.socket, answer: dict[str, Any], descriptors: list[int] | None = None) -> None:
    socket.send_fds(control, [json.dumps(answer).encode()], descriptors or [])


def refusal(error: OSError) -> dict[str, Any]:
    path = str(error.filename)[:LONGEST_PATH] if error.filename else None
    return {"errno": error.errno, "error": error.strerror, "path": path}


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2] == "1")
