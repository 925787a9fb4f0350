"""The exchanges over TCP: connecting, listening, looking."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import time

from udpkit.netcat.addresses import Found, find
from udpkit.netcat.plan import CHUNK, OK, REFUSED, SILENT, UNREACHABLE, Plan, Talk, Trouble, cannot_bind
from udpkit.netcat.stdio import STDIN, Input, write_out
from udpkit.sockets.opening import endpoint, every_address

LINGER = 0.5
"""Seconds without a byte on stdin after which a listener ends whose peer has sent all it had."""

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
        sock.settimeout(plan.wait)
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
        return exchange(sock, plan, talk, f"{plan.host} port {plan.ports[0]}")


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
                code = exchange(sock, plan, talk, str(peer))
            if not plan.keep:
                return code


def exchange(sock: socket.socket, plan: Plan, talk: Talk, peer: str) -> int:
    """stdin to the peer, the peer to stdout, until both have ended or the times of the plan are over."""
    sock.setblocking(False)
    stdin = Input(plan)
    unsent = memoryview(b"")
    hearing = True
    code = OK
    active = time.monotonic()
    ended = None
    while True:
        now = time.monotonic()
        if stdin.ended and not unsent:
            if not hearing:
                return code
            if plan.stdin and ended is None:
                ended = now
                if (plan.shutdown or plan.quit_after is not None) and code == OK:
                    with contextlib.suppress(OSError):  # it has gone: reading will say so
                        sock.shutdown(socket.SHUT_WR)
        limits = [
            since + limit - now
            for since, limit in (
                (active, plan.wait),
                (ended, plan.quit_after),
                (active if plan.listen and not hearing and not unsent else None, LINGER),
            )
            if since is not None and limit is not None
        ]
        if limits and min(limits) <= 0:
            return code
        poll = select.poll()
        if hearing or unsent:
            poll.register(sock, hearing * select.POLLIN | bool(unsent) * select.POLLOUT)
        held = None
        if not stdin.ended and not unsent:
            held = stdin.wait()
            if held is None:
                poll.register(STDIN, select.POLLIN)
            else:
                limits.append(held)
        ready = dict(poll.poll(math.ceil(1000 * min(limits)) if limits else None))
        if not unsent and (STDIN in ready or (held is not None and stdin.wait() == 0)):
            unsent = memoryview(stdin.take())
            active = time.monotonic()
        try:
            if unsent:
                with contextlib.suppress(BlockingIOError):
                    unsent = unsent[sock.send(unsent) :]
                    active = time.monotonic()
            data = b""
            if hearing and sock.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    data = sock.recv(CHUNK)
                    hearing = bool(data)
                    active = time.monotonic()
        except OSError as error:
            sentence, code = failure(error)
            talk("lost", f"{peer}: {sentence}", peer=peer)
            if error.errno != errno.EPIPE:
                return code
            stdin.ended, unsent = (
                True,
                memoryview(b""),
            )  # it reads no more; what it said before is still to come
        if plan.stdout:
            write_out(data)
