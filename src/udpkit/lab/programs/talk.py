"""Plain UDP and TCP programs for lab hosts: what is typed is sent, what is heard is printed.

    talk.py serve [--nc | --tcp] [--errors] [--queue] [--who] [--sizes] ADDRESS PORT
    talk.py ask [--connect | --tcp] [--broadcast] [--errors] [--queue] [--who] [--sizes] [--deaf] ADDRESS PORT

`serve` answers its latest peer with sendto(). With --nc it makes the system calls of OpenBSD's `nc -ul`: it
peeks at the first datagram, connects to its sender, and ends when the socket reports an error. `ask` stays
unconnected unless told otherwise.

--errors  prints the errors of send and receive: `send: ECONNREFUSED`
--queue   asks for the error queue (IP_RECVERR, IPV6_RECVERR) and prints what comes in it
--who     prints from whom each datagram came
--sizes   what is typed is how many bytes to send (of the letter x), what is printed how many came
--dont, --want, --do, --probe   how the socket goes about the path MTU (IP_MTU_DISCOVER)
--broadcast  may send to broadcast addresses (SO_BROADCAST)
--deaf    receives only when `receive` is typed, once and without waiting, or `wait`, which waits
"""

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial

Received = tuple[bytes, tuple[str, int] | None]
Talk = tuple[socket.socket, Callable[[bytes], object], Callable[[], Received]]
LONGEST = 65535
ERROR = struct.Struct("=IBBBBII")
"""sock_extended_err (linux/errqueue.h): errno, origin, type, code, padding, info, data."""
QUEUES = {
    (socket.IPPROTO_IP, 11): socket.AF_INET,
    (socket.IPPROTO_IPV6, 25): socket.AF_INET6,
}
"""IP_RECVERR and IPV6_RECVERR, which Python does not name, and the family of the offender's address."""

DISCOVERS = {"--dont": 0, "--want": 1, "--do": 2, "--probe": 3}
"""IP_PMTUDISC_… and IPV6_PMTUDISC_… (linux/in.h, linux/in6.h)."""
MTU_DISCOVER = {
    socket.AF_INET: (socket.IPPROTO_IP, 10),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23),
}


def serve(address: str, port: int) -> Talk:
    """A plain server: it leaves it to the kernel from which address its answers go."""
    sock = bound(socket.SOCK_DGRAM, address, port)
    peer: tuple[str, int] | None = None

    def receive() -> Received:
        nonlocal peer
        data, peer = sock.recvfrom(LONGEST)
        return data, peer

    return sock, lambda data: peer and sock.sendto(data, peer), receive


def serve_as_nc(address: str, port: int) -> Talk:
    """`nc -ul`: locked to the first peer."""
    sock = bound(socket.SOCK_DGRAM, address, port)
    _, peer = sock.recvfrom(2048, socket.MSG_PEEK)
    sock.connect(peer)
    return sock, sock.send, lambda: (sock.recv(LONGEST), None)


def serve_tcp(address: str, port: int) -> Talk:
    with bound(socket.SOCK_STREAM, address, port) as listener:
        listener.listen()
        sock, _ = listener.accept()
    return sock, sock.sendall, lambda: (sock.recv(LONGEST), None)


def ask(address: str, port: int) -> Talk:
    """A client whose socket takes an answer from anybody."""
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    return sock, lambda data: sock.sendto(data, (address, port)), lambda: sock.recvfrom(LONGEST)


def ask_connected(address: str, port: int, kind: int = socket.SOCK_DGRAM) -> Talk:
    """A client whose socket takes an answer from the endpoint it asked, and from nobody else."""
    sock = socket.socket(family(address), kind)
    sock.connect((address, port))
    return sock, sock.sendall, lambda: (sock.recv(LONGEST), None)


def ask_tcp(address: str, port: int) -> Talk:
    return ask_connected(address, port, socket.SOCK_STREAM)


def bound(kind: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family(address), kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def talk(
    sock: socket.socket,
    send: Callable[[bytes], object],
    receive: Callable[[], Received],
    flags: set[str],
) -> None:
    """Carry lines both ways until standard input ends."""
    if "--queue" in flags:
        for level, option in QUEUES:
            if level == socket.IPPROTO_IP or sock.family == socket.AF_INET6:
                sock.setsockopt(level, option, 1)
    if "--broadcast" in flags:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    for discover in flags & DISCOVERS.keys():
        sock.setsockopt(*MTU_DISCOVER[socket.AddressFamily(sock.family)], DISCOVERS[discover])
    poll = select.poll()
    poll.register(0, select.POLLIN)
    if "--deaf" not in flags:
        poll.register(sock, select.POLLIN)
    while True:
        events = dict(poll.poll())
        happened = events.get(sock.fileno(), 0)
        if happened & select.POLLERR and "--nc" in flags:
            return  # nc closes and ends here, without a word
        if happened & select.POLLERR and "--queue" in flags:
            print_queue(sock)
            happened &= select.POLLIN  # the error left the socket with the queue: a receive would wait
        if happened and not attempt("receive", lambda: print_received(*receive(), flags), flags):
            return
        if 0 in events:
            data = os.read(0, LONGEST)
            if not data:
                return
            if "--deaf" in flags and data in (b"receive\n", b"wait\n"):
                sock.setblocking(data == b"wait\n")
                attempt("receive", lambda: print_received(*receive(), flags), flags)
                sock.setblocking(True)
                continue
            if "--sizes" in flags:
                data = b"x" * int(data)
            if attempt("send", partial(send, data), flags) and "--deaf" in flags:
                os.write(1, b"send: done\n")


def attempt(what: str, call: Callable[[], object], flags: set[str]) -> bool:
    """Whether to go on: False at the end of a TCP connection. An error is no end."""
    try:
        return call() is not False
    except OSError as error:
        if "--errors" in flags:
            os.write(1, f"{what}: {errno.errorcode.get(error.errno or 0, error)}\n".encode())
        return "--deaf" not in flags


def print_received(data: bytes, peer: tuple[str, int] | None, flags: set[str]) -> bool:
    who = f" from {peer[0]} port {peer[1]}".encode() if "--who" in flags and peer else b""
    line = b"%d\n" % len(data) if "--sizes" in flags else data
    os.write(1, line.removesuffix(b"\n") + who + b"\n" if who else line)
    return bool(data) or "--tcp" not in flags


def print_queue(sock: socket.socket) -> None:
    """What the error queue holds: errno, ICMP type and code, offender, and the datagram that it was about."""
    while True:
        try:
            data, messages, _, about = sock.recvmsg(LONGEST, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        for level, kind, message in messages:
            if (level, kind) in QUEUES:
                number, origin, icmp_type, icmp_code, *_ = ERROR.unpack_from(message)
                where = 4 if QUEUES[level, kind] == socket.AF_INET else 8
                address = message[ERROR.size + where :][: 4 if where == 4 else 16]
                offender = socket.inet_ntop(QUEUES[level, kind], address) if origin > 1 else "this host"
                text = data.decode(errors="replace").strip()
                told = f"{errno.errorcode[number]} from {offender} type {icmp_type} code {icmp_code}"
                os.write(1, f"queue: {told}, about “{text}” to {about[0]} port {about[1]}\n".encode())


MODES = {
    "serve": serve,
    "serve --nc": serve_as_nc,
    "serve --tcp": serve_tcp,
    "ask": ask,
    "ask --connect": ask_connected,
    "ask --tcp": ask_tcp,
}
FLAGS = {"--errors", "--queue", "--who", "--sizes", "--broadcast", "--deaf", *DISCOVERS}

USAGE = f"usage: talk {' | '.join(MODES)} [{' '.join(sorted(FLAGS))}] ADDRESS PORT"

if __name__ == "__main__":
    try:
        *words, where, number = sys.argv[1:]
        mode, port = MODES[" ".join(word for word in words if word not in FLAGS)], int(number)
    except (ValueError, KeyError):
        sys.exit(USAGE)
    talk(*mode(where, port), set(words))
