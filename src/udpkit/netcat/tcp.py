"""The exchanges over TCP: connecting, listening, looking."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import time
from collections.abc import Iterator

from udpkit.netcat.addresses import Found, find
from udpkit.netcat.exchange import Deadline, Exchange
from udpkit.netcat.plan import CHUNK, OK, REFUSED, SILENT, UNREACHABLE, Plan, Talk, Trouble, cannot_bind
from udpkit.netcat.stdio import write_out
from udpkit.sockets.opening import endpoint, every_address

LINGER = 0.5
"""Seconds without a byte on stdin after which a listener ends whose peer has sent all it had, at least.

Other netcats end at once, with what stdin would have given: whether the peer still reads cannot be seen.
"""

SHORTEST = 0.001
"""Seconds that connecting may take in spite of `-w 0`: on this host it succeeds, as with nc."""

FAILURES = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: REFUSED,
    errno.EPIPE: REFUSED,
    errno.ETIMEDOUT: SILENT,
    errno.EAGAIN: SILENT,
}
"""Exit codes of what connect(2) and recv(2) say; whatever else: unreachable."""


def failure(error: OSError) -> tuple[str, int]:
    """A sentence's end and the exit code."""
    number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or 0
    return os.strerror(number).lower(), FAILURES.get(number, UNREACHABLE)


def connect(plan: Plan, port: int, talk: Talk) -> socket.socket:
    """A connection to the first address of the host that takes one. Raises Trouble."""
    assert plan.host is not None  # noqa: S101 - the command line has seen to it
    *others, last = find(plan.host, port, plan)
    for one in others:
        try:
            return connected(one, plan, port, talk)
        except Trouble as trouble:
            talk("failed", str(trouble), verbose=True)
    return connected(last, plan, port, talk)


def connected(to: Found, plan: Plan, port: int, talk: Talk) -> socket.socket:
    """A connection to one address. Raises Trouble."""
    family, sockaddr = to
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if plan.source or plan.source_port:
            bind(sock, plan.source, plan.source_port, plan)
        sock.settimeout(plan.wait if plan.wait is None else max(plan.wait, SHORTEST))
        sock.connect(sockaddr)
    except BaseException as error:
        sock.close()
        if not isinstance(error, OSError):
            raise
        sentence, code = failure(error)
        raise Trouble(f"{endpoint(sockaddr)} (TCP): {sentence}", code) from None
    done = f"Connection to {plan.host} {port} port [tcp/{service(port, plan)}] succeeded!"
    talk("connected", done, verbose=True, peer=endpoint(sockaddr))
    return sock


def bind(sock: socket.socket, address: str | None, port: int, plan: Plan) -> None:
    """Bind to an address of the socket's family; no address is every address. Raises Trouble."""
    anywhere = "::" if sock.family == socket.AF_INET6 else "0.0.0.0"  # noqa: S104 - asked for
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(find(address or anywhere, port, plan, sock.family)[0][1])
    except OSError as error:
        raise cannot_bind(error, address or "", port, udp=False) from None


def service(port: int, plan: Plan) -> str:
    """The name of a port as nc shows it."""
    try:
        return "*" if plan.numeric else socket.getservbyport(port, "tcp")
    except OSError:
        return "*"


def ask(plan: Plan, talk: Talk) -> int:
    """`nc HOST PORT`."""
    with connect(plan, plan.ports[0], talk) as sock:
        return Connection(sock, plan, talk, f"{plan.host} port {plan.ports[0]}").run()


def scan(plan: Plan, talk: Talk) -> int:
    """`nc -z HOST PORTS`: 0 if one of them is open, as nc has it, else the highest code."""
    codes: list[int] = []
    for port in plan.ports:
        if codes and plan.interval:
            time.sleep(plan.interval)
        try:
            connect(plan, port, talk).close()
            codes.append(OK)
        except Trouble as trouble:
            talk("failed", str(trouble), verbose=True)
            codes.append(trouble.exit_code)
    return OK if OK in codes else max(codes)


def listen(plan: Plan, talk: Talk) -> int:
    """`nc -l PORT`: one connection, or with `keep` one after another."""
    family = find(plan.host, 0, plan)[0][0] if plan.host else plan.family or every_address(0)[0]
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, bool(plan.family))
        bind(listener, plan.host, plan.ports[0], plan)
        listener.listen()
        local = endpoint(listener.getsockname())
        talk("listening", f"listening on TCP {local}", verbose=True, local=local)
        while True:
            sock, sockaddr = listener.accept()
            with sock:
                if not plan.keep:
                    listener.close()  # who else comes is refused
                asked = endpoint(sock.getsockname())
                peer = endpoint(sockaddr)
                talk("peer", f"{peer} asks {asked}", verbose=True, peer=peer, asked=asked)
                code = Connection(sock, plan, talk, str(peer)).run()
            if not plan.keep:
                return code


class Connection(Exchange):
    """A connection: each direction may end before the other (RFC 9293, 3.6)."""

    def __init__(self, sock: socket.socket, plan: Plan, talk: Talk, peer: str) -> None:
        super().__init__(sock, plan, talk)
        sock.setblocking(False)
        self.sock = sock
        self.peer = peer
        self.unsent = memoryview(b"")
        self.hearing = True
        """Whether the peer may still say something."""
        self.code = OK

    def events(self) -> int:
        return self.hearing * select.POLLIN | bool(self.unsent) * select.POLLOUT

    def wants_stdin(self) -> bool:
        return not self.stdin.ended and not self.unsent

    def has_sent_all(self) -> bool:
        return self.stdin.ended and not self.unsent

    def is_over(self) -> bool:
        return not self.hearing and self.has_sent_all()

    def stdin_ended(self) -> None:
        if self.code == OK and (self.plan.shutdown or self.plan.quit_after not in (None, math.inf)):
            with contextlib.suppress(OSError):  # it has gone: reading will say so
                self.sock.shutdown(socket.SHUT_WR)

    def deadlines(self) -> Iterator[Deadline]:
        yield from super().deadlines()
        if self.plan.listen and not self.hearing and not self.unsent:
            yield self.active, max(LINGER, self.plan.quit_after or 0)

    def result(self) -> int:
        return self.code

    def act(self, ready: bool, typed: bool) -> bool:
        if typed:
            self.unsent = memoryview(self.stdin.take())
        try:
            sent = self._send()
            heard = self._receive() if ready and self.hearing else None
        except OSError as error:
            self._lose(error)
            return True
        if heard and self.plan.stdout:
            write_out(heard)
        return sent or heard is not None

    def _send(self) -> bool:
        """What there is room for; whether that was anything."""
        if not self.unsent:
            return False
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            return False
        return True

    def _receive(self) -> bytes | None:
        """What has come, empty at the end; None if it was nothing after all."""
        try:
            data = self.sock.recv(CHUNK)
        except BlockingIOError:
            return None
        self.hearing = bool(data)
        return data

    def _lose(self, error: OSError) -> None:
        """The peer takes no more; after EPIPE, what it said before is still to come."""
        sentence, self.code = failure(error)
        self.talk("lost", f"{self.peer}: {sentence}", peer=self.peer)
        self.stdin.ended, self.unsent = True, memoryview(b"")
        self.hearing = self.hearing and error.errno == errno.EPIPE
