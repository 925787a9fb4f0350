"""Captures and socket tables, made by hand."""

from __future__ import annotations

import struct
from ipaddress import ip_address

UDP, ICMP, ICMPV6 = 17, 1, 58
ARP_FRAME = bytes(12) + b"\x08\x06" + bytes(28)


def ip(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = ip_address(source).packed + ip_address(destination).packed
    if ip_address(source).version == 4:
        return (
            struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0) + addresses + payload
        )
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + addresses + payload


def datagram(source: str, sport: int, destination: str, dport: int, payload: bytes = b"hello") -> bytes:
    return ip(source, destination, UDP, struct.pack("!4H", sport, dport, 8 + len(payload), 0) + payload)


def refusal(sender: str, receiver: str, quoted: bytes) -> bytes:
    """ICMP port unreachable about the IP packet `quoted`."""
    protocol, kind = (ICMP, b"\3\3") if ip_address(sender).version == 4 else (ICMPV6, b"\1\4")
    return ip(sender, receiver, protocol, kind + bytes(6) + quoted)


def frame(packet: bytes) -> bytes:
    return bytes(12) + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet


def pcap(*frames: bytes, order: str = "<", magic: int = 0xA1B2C3D4) -> bytes:
    """A capture file; frame number n was seen at second n and 5 units of the file's fraction."""
    header = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, 1)
    records = (
        struct.pack(order + "IIII", number, 5, len(data), len(data)) + data
        for number, data in enumerate(frames, start=1)
    )
    return header + b"".join(records)


def row(
    local: str, peer: str = "00000000:0000", state: str = "07", inode: object = 7, drops: object = 0
) -> str:
    """A line of /proc/net/udp, spaced as net/ipv4/udp.c does it."""
    return (
        f"  123: {local} {peer} {state} 00000000:00000000 00:00000000 00000000  1000        0 {inode} 2 "
        f"00000000a1b2c3d4 {drops}    "
    )


def column(address: str, port: int) -> str:
    """An address as a host of this byte order prints it."""
    packed = ip_address(address).packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
