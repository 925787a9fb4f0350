"""Readiness of a socket for event loops that do not know error queues."""

from __future__ import annotations

import select
import socket


def readable(sock: socket.socket) -> select.epoll:
    """A descriptor that is readable when the socket has a datagram, or an error report."""
    return _watch(sock, select.EPOLLIN)


def writable(sock: socket.socket) -> select.epoll:
    """A descriptor that is readable when the socket has room to send, or an error report."""
    return _watch(sock, select.EPOLLOUT)


def _watch(sock: socket.socket, events: int) -> select.epoll:
    """An epoll(7) of one socket, to be watched in its place.

    An error in the queue is POLLERR to poll(2). libuv takes that for a descriptor that was closed and stops
    watching it for good (uv__poll_io()), and so does uvloop's add_reader(), silently. An epoll descriptor is
    readable, no more, whatever happens to the socket in it. The caller closes it.
    """
    watch = select.epoll(1)
    try:
        watch.register(sock, events)
    except BaseException:
        watch.close()
        raise
    return watch
