"""Gives sockets of a new network namespace every ICMP error there is, and prints what each was told.

A raw socket forges the errors over loopback; the kernel takes them for real. Prints rows of
[version, type, code, errno of an unconnected socket, of a connected one, of a connected one with IP_RECVERR],
0 for nothing. It is a program because a process with threads cannot enter a user namespace.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import socket
import struct
import sys

from udpkit import _native
from udpkit.kernel.icmp import KINDS, PORT_UNREACHABLE

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
RECVERR = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}
PEER_PORT = 9


def bring_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def has(version: int) -> bool:
    try:
        with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as any_socket:
            any_socket.bind((LOOPBACK[version], 0))
    except OSError:
        return False
    return True


def error_about(version: int, kind: tuple[int, int], port: int) -> bytes:
    """An ICMP error that quotes a datagram from `port` to PEER_PORT, both on loopback."""
    address = socket.inet_pton(FAMILY[version], LOOPBACK[version])
    udp = struct.pack("!4H", port, PEER_PORT, 8, 0)
    if version == 4:
        quote = struct.pack("!BBHHHBBH", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0) + address * 2 + udp
    else:
        quote = struct.pack("!IHBB", 6 << 28, 8, socket.IPPROTO_UDP, 64) + address * 2 + udp
    mtu = struct.pack("!I", 1300) if kind in {(3, 4), (2, 0)} else bytes(4)
    message = bytes([*kind, 0, 0]) + mtu + quote
    return message if version == 6 else message[:2] + checksum(message) + message[4:]


def checksum(data: bytes) -> bytes:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF)


def told(version: int, kind: tuple[int, int]) -> list[int]:
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    sockets = [socket.socket(FAMILY[version], socket.SOCK_DGRAM) for _ in range(4)]
    unconnected, connected, listening, last = sockets
    listening.setsockopt(*RECVERR[version], 1)
    refused = next((type_, code) for of, type_, code in PORT_UNREACHABLE if of == version)
    with socket.socket(FAMILY[version], socket.SOCK_RAW, protocol) as raw:
        for one in sockets:
            one.bind((LOOPBACK[version], 0))
            if one is not unconnected:
                one.connect((LOOPBACK[version], PEER_PORT))
            error = error_about(version, refused if one is last else kind, one.getsockname()[1])
            raw.sendto(error, (LOOPBACK[version], 0))
    if not select.select([last], [], [], 5)[0]:  # errors come in order: the others have had theirs
        raise TimeoutError(f"the kernel took no error on {LOOPBACK[version]}")
    errors = [
        one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for one in (unconnected, connected, listening)
    ]
    for one in sockets:
        one.close()
    return errors


def main() -> None:
    try:
        _native.unshare(_native.CLONE_NEWUSER | _native.CLONE_NEWNET)
    except OSError as error:
        sys.exit(f"no namespace: {error}")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # loopback keeps the order within one processor
    bring_loopback_up()
    versions = [version for version in (4, 6) if has(version)]
    rows = [[*kind, *told(kind[0], kind[1:])] for kind in KINDS if kind[0] in versions]
    sys.stdout.write(json.dumps(rows))


if __name__ == "__main__":
    main()
