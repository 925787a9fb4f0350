"""Captures of made-up traffic: the same for the same seed, however large."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import count
from random import Random
from typing import BinaryIO

FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
RECORD = struct.Struct("<IIII")
PAYLOAD = 59
"""Bytes: with the headers and the record's it makes 117 a packet."""
ROUNDS = 50
"""Requests, and as many replies, of each conversation."""
WRONG_SOURCE = 200
"""One conversation of so many is answered from another address, and refuses it."""
START = 1_700_000_000_000_000
GAP = 7
"""Microseconds between packets."""
SERVERS = 500
UDP, ICMP = 17, 1


def write(file: BinaryIO, conversations: int, seed: int, rounds: int = ROUNDS, repeat: int = 1) -> int:
    """Write a capture of `2 * rounds * conversations` datagrams, `repeat` times on end; returns its bytes."""
    frames = [_frames(number, seed) for number in range(conversations)]
    order = list(range(conversations))
    shuffled = Random(seed)  # noqa: S311 - nothing secret
    clock = count(START, GAP)
    written = file.write(FILE_HEADER)
    for _ in range(rounds * repeat):
        shuffled.shuffle(order)
        for first in range(0, conversations, 1000):
            chunk = b"".join(_records(clock, (frames[number] for number in order[first : first + 1000])))
            written += file.write(chunk)
    return written


def write_many(file: BinaryIO, conversations: int) -> int:
    """A request and its reply of each of so many clients; returns the bytes."""
    clock = count(START, GAP)
    written = file.write(FILE_HEADER)
    for first in range(0, conversations, 1000):
        frames = (_frames(number, 0)[:2] for number in range(first, min(first + 1000, conversations)))
        written += file.write(b"".join(_records(clock, frames)))
    return written


def _records(clock: Iterator[int], exchanges: Iterator[tuple[bytes, ...]]) -> Iterator[bytes]:
    for exchange in exchanges:
        for frame in exchange:
            seconds, fraction = divmod(next(clock), 1_000_000)
            yield RECORD.pack(seconds, fraction, len(frame), len(frame))
            yield frame


def _frames(number: int, seed: int) -> tuple[bytes, ...]:
    """A request, its reply, and what the client says to that."""
    client = IPv4Address("10.64.0.0") + number // 50
    port = 32768 + number * 7 % 28000
    server = IPv4Address("192.0.2.1") + number % SERVERS * 256
    wrong = number % WRONG_SOURCE == WRONG_SOURCE - 1
    answering = server + 1 if wrong else server
    payload = Random(number + seed).randbytes(PAYLOAD)  # noqa: S311
    request = _udp(client, port, server, 5300, payload)
    reply = _udp(answering, 5300, client, port, payload)
    if not wrong:
        return _ethernet(request), _ethernet(reply)
    refusal = b"\3\3" + bytes(6) + reply[:28]
    return _ethernet(request), _ethernet(reply), _ethernet(_ip(client, answering, ICMP, refusal))


def _ethernet(packet: bytes) -> bytes:
    return b"\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" + packet


def _ip(source: IPv4Address, destination: IPv4Address, protocol: int, payload: bytes) -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0)
    return header + source.packed + destination.packed + payload


def _udp(source: IPv4Address, sport: int, destination: IPv4Address, dport: int, payload: bytes) -> bytes:
    length = 8 + len(payload)
    ends = source.packed + destination.packed
    covered = ends + struct.pack("!HH4H", UDP, length, sport, dport, length, 0) + payload + bytes(length % 2)
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    checksum = ~total & 0xFFFF or 0xFFFF
    return _ip(source, destination, UDP, struct.pack("!4H", sport, dport, length, checksum) + payload)
