"""Tunnels: WireGuard, OpenVPN, L2TP, and the mobile core's GTP and PFCP."""

from __future__ import annotations

import struct

from udpkit.probe.protocols.protocol import protocol
from udpkit.probe.protocols.reading import Cursor, insist, named, quoted

# WireGuard: the white paper, section 5.4

WIREGUARD_ANSWERS = {2: ("handshake response", 92), 3: ("cookie reply", 64)}  # (name, bytes) by message type


def wireguard_request(unique: bytes, _: str) -> bytes:
    """A handshake initiation, 148 bytes, whose keys and MACs are nobody's."""
    return (b"\1\0\0\0" + unique * 9)[:116] + bytes(32)


def wireguard_answer(request: bytes, reply: Cursor) -> str:
    size, kind = reply.left, reply.number(1)
    insist(kind in WIREGUARD_ANSWERS)
    name, wanted = WIREGUARD_ANSWERS[kind]
    insist(size == wanted)
    reply.expect(bytes(3))
    if kind == 2:
        reply.take(4)  # its own index; ours comes behind it
    reply.expect(request[4:8])
    return name


# OpenVPN: doc_protocol_overview.h in its sources, "wire protocol"

HARD_RESET_CLIENT_V2, HARD_RESET_SERVER_V2, OPENVPN_ACK = 7 << 3, 8 << 3, 5 << 3


def openvpn_request(unique: bytes, _: str) -> bytes:
    """Session, no acknowledgements, packet 0."""
    return bytes([HARD_RESET_CLIENT_V2]) + unique[:8] + bytes(1) + bytes(4)


def openvpn_answer(request: bytes, reply: Cursor) -> str:
    kind = reply.number(1)
    insist(kind in (HARD_RESET_SERVER_V2, OPENVPN_ACK))
    reply.take(8)
    acknowledged = reply.number(1)
    insist(acknowledged > 0)
    reply.take(4 * acknowledged)
    reply.expect(request[1:9])
    return "server's hard reset" if kind == HARD_RESET_SERVER_V2 else "acknowledged"


# L2TP: RFC 2661, sections 3.1, 4.4 and 6.1

CONTROL = 0xC802  # type, length and sequence bits, version 2
SCCRQ, SCCRP, STOP_CCN = 1, 2, 4
MESSAGE_TYPE, HOST_NAME = 0, 7


def l2tp_request(unique: bytes, _: str) -> bytes:
    tunnel = bytes([unique[0] | 1, unique[1]])  # 0 is nobody's
    attributes = (
        (MESSAGE_TYPE, struct.pack("!H", SCCRQ)),
        (2, b"\1\0"),  # protocol version 1, revision 0
        (3, b"\0\0\0\3"),  # framing: synchronous and asynchronous
        (HOST_NAME, b"udpkit"),
        (9, tunnel),  # last, where `l2tp_answer` looks for it
    )
    body = b"".join(
        struct.pack("!HHH", 0x8000 | 6 + len(value), 0, kind) + value for kind, value in attributes
    )
    return struct.pack("!6H", CONTROL, 12 + len(body), 0, 0, 0, 0) + body


def l2tp_answer(request: bytes, reply: Cursor) -> str:
    flags, length = reply.number(2), reply.number(2)
    insist(flags == CONTROL)
    reply.expect(request[-2:])
    reply.take(6)
    body = Cursor(reply.take(length - 12))
    attributes = dict[tuple[int, int], Cursor]()
    while body.left:
        size = body.number(2) & 0x3FF
        attributes.setdefault((body.number(2), body.number(2)), Cursor(body.take(size - 6)))
    if not attributes:
        return "acknowledged"
    message = attributes.get((0, MESSAGE_TYPE), Cursor(b"")).number(2)
    insist(message in (SCCRP, STOP_CCN))
    host = attributes.get((0, HOST_NAME))
    name = "SCCRP" if message == SCCRP else "StopCCN"
    return f"{name} from {quoted(host.rest())}" if host else name


# GTP version 1: 3GPP TS 29.060, sections 6 and 7.2; version 2: TS 29.274, sections 5 and 7.1

ECHO_REQUEST = 1
GTP_ANSWERS = {2: "echo response", 3: "version not supported"}


def gtp_request(unique: bytes, _: str) -> bytes:
    """Version 1 with a sequence number, for no tunnel."""
    return struct.pack("!BBHI", 0x32, ECHO_REQUEST, 4, 0) + unique[:2] + bytes(2)


def gtp_answer(request: bytes, reply: Cursor) -> str:
    flags, kind = reply.number(1), reply.number(1)
    insist(flags & 0xF0 == 0x30 and bool(flags & 2) and kind in GTP_ANSWERS)
    reply.take(2 + 4)
    reply.expect(request[8:10])
    return GTP_ANSWERS[kind]


def gtp2_request(unique: bytes, _: str) -> bytes:
    """With the restart counter that it must have (TS 29.274, section 7.1.1)."""
    return struct.pack("!BBH", 0x40, ECHO_REQUEST, 4 + 5) + unique[:3] + b"\0" + b"\3\0\1\0\0"


def gtp2_answer(request: bytes, reply: Cursor) -> str:
    flags, kind = reply.number(1), reply.number(1)
    insist(flags & 0xE8 == 0x40 and kind in GTP_ANSWERS)
    reply.take(2)
    reply.expect(request[4:7])
    return GTP_ANSWERS[kind]


# PFCP: 3GPP TS 29.244, sections 7.2.2 and 7.4.2

PFCP_ANSWERS = {2: "heartbeat response", 11: "version not supported"}


def pfcp_request(unique: bytes, _: str) -> bytes:
    """With the recovery time stamp that it must have, of a time before any node (1968)."""
    return struct.pack("!BBH", 0x20, 1, 4 + 8) + unique[:3] + b"\0" + struct.pack("!HHI", 96, 4, 1 << 31)


def pfcp_answer(request: bytes, reply: Cursor) -> str:
    flags, kind = reply.number(1), reply.number(1)
    insist(flags & 0xE1 == 0x20 and kind in PFCP_ANSWERS)
    reply.take(2)
    reply.expect(request[4:7])
    return named(PFCP_ANSWERS, kind)


FAMILY = (
    protocol(
        "wireguard",
        "WireGuard",
        (51820,),
        wireguard_request,
        wireguard_answer,
        quiet="a WireGuard peer answers only who knows its public key",
    ),
    protocol(
        "openvpn",
        "OpenVPN",
        (1194,),
        openvpn_request,
        openvpn_answer,
        quiet="a server with tls-auth or tls-crypt answers only who has its key",
    ),
    protocol("l2tp", "L2TP", (1701,), l2tp_request, l2tp_answer),
    protocol("gtp", "GTP", (2152, 2123), gtp_request, gtp_answer),
    protocol("gtp2", "GTPv2", (), gtp2_request, gtp2_answer),
    protocol("pfcp", "PFCP", (8805,), pfcp_request, pfcp_answer),
)
