"""Plain UDP and TCP programs for lab hosts: what is typed is sent, what is heard is printed.

    talk.py serve [--nc | --tcp] ADDRESS PORT
    talk.py ask [--connect | --tcp] ADDRESS PORT

`serve` answers its latest peer with sendto(). With --nc it makes the system calls of OpenBSD's `nc -ul`: it
peeks at the first datagram, connects to its sender, and ends when the socket reports an error. `ask` stays
unconnected unless told otherwise.
"""

import contextlib
import os
import select
import socket
import sys
from collections.abc import Callable

Talk = tuple[socket.socket, Callable[[bytes], object], Callable[[], bytes]]


def serve(address: str, port: int) -> Talk:
    """A plain server: it leaves it to the kernel from which address its answers go."""
    sock = bound(socket.SOCK_DGRAM, address, port)
    peer: tuple[str, int] | None = None

    def receive() -> bytes:
        nonlocal peer
        data, peer = sock.recvfrom(65535)
        return data

    return sock, lambda data: peer and sock.sendto(data, peer), receive


def serve_as_nc(address: str, port: int) -> Talk:
    """`nc -ul`: locked to the first peer."""
    sock = bound(socket.SOCK_DGRAM, address, port)
    _, peer = sock.recvfrom(2048, socket.MSG_PEEK)
    sock.connect(peer)
    return sock, sock.send, lambda: sock.recv(65535)


def serve_tcp(address: str, port: int) -> Talk:
    with bound(socket.SOCK_STREAM, address, port) as listener:
        listener.listen()
        sock, _ = listener.accept()
    return sock, sock.sendall, lambda: sock.recv(65535)


def ask(address: str, port: int) -> Talk:
    """A client whose socket takes an answer from anybody."""
    sock = socket.socket(family(address), socket.SOCK_DGRAM)
    return sock, lambda data: sock.sendto(data, (address, port)), lambda: sock.recvfrom(65535)[0]


def ask_connected(address: str, port: int, kind: int = socket.SOCK_DGRAM) -> Talk:
    """A client whose socket takes an answer from the endpoint it asked, and from nobody else."""
    sock = socket.socket(family(address), kind)
    sock.connect((address, port))
    return sock, sock.sendall, lambda: sock.recv(65535)


def ask_tcp(address: str, port: int) -> Talk:
    return ask_connected(address, port, socket.SOCK_STREAM)


def bound(kind: int, address: str, port: int) -> socket.socket:
    sock = socket.socket(family(address), kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


def family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def talk(sock: socket.socket, send: Callable[[bytes], object], receive: Callable[[], bytes]) -> None:
    """Carry lines both ways until standard input ends."""
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(sock, select.POLLIN)
    while True:
        events = dict(poll.poll())
        if events.get(sock.fileno(), 0) & select.POLLERR and "--nc" in sys.argv:
            return  # nc closes and ends here, without a word
        if sock.fileno() in events:
            with contextlib.suppress(OSError):  # what ICMP said of an earlier datagram
                data = receive()
                os.write(1, data)
                if not data and sock.type == socket.SOCK_STREAM:
                    return
        if 0 in events:
            data = os.read(0, 65535)
            if not data:
                return
            with contextlib.suppress(OSError):
                send(data)


MODES = {
    "serve": serve,
    "serve --nc": serve_as_nc,
    "serve --tcp": serve_tcp,
    "ask": ask,
    "ask --connect": ask_connected,
    "ask --tcp": ask_tcp,
}

if __name__ == "__main__":
    *mode, where, number = sys.argv[1:]
    talk(*MODES[" ".join(mode)](where, int(number)))
