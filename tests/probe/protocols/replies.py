"""An answer of each protocol, put together by hand from its specification, and what must be said of it."""

from __future__ import annotations

import struct
from collections.abc import Callable

UNIQUE = bytes(range(1, 17))


def der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    assert len(content) < 128
    return bytes([tag, len(content)]) + content


def dns(request: bytes) -> bytes:
    """NOERROR with the question and one NS record of it."""
    question = request[12:]
    return (
        request[:2]
        + b"\x84\0\0\1\0\1\0\0\0\0"
        + question
        + b"\xc0\x0c"
        + question[-4:]
        + b"\0\0\0\7\0\3\1a\0"
    )


def snmp(request: bytes) -> bytes:
    """request[17:21] is the request-id: what stands before it has a fixed length for `public`."""
    assert request[15:17] == b"\2\4"
    variable = der(0x30, der(6, b"\x2b\6\1\2\1\1\1\0"), der(4, b"a\x1b[2Jrouter"))
    pdu = der(0xA2, request[15:21], der(2, b"\0"), der(2, b"\0"), der(0x30, variable))
    return der(0x30, der(2, b"\1"), der(4, b"public"), pdu)


def kerberos(_: bytes) -> bytes:
    fields = der(0xA0, der(2, b"\5")), der(0xA1, der(2, b"\x1e")), der(0xA6, der(2, b"\x19"))
    return der(0x7E, der(0x30, *fields))


def stun(request: bytes) -> bytes:
    """192.0.2.2:4660, and SOFTWARE of 3 bytes and 1 of padding before it."""
    address = bytes(one ^ other for one, other in zip(b"\xc0\0\2\2", b"\x21\x12\xa4\x42", strict=True))
    attributes = b"\x80\x22\0\3abc\0" + b"\0\x20\0\x08\0\1" + struct.pack("!H", 0x1234 ^ 0x2112) + address
    return b"\1\1" + struct.pack("!H", len(attributes)) + request[4:20] + attributes


def dtls(kind: int, body: bytes) -> bytes:
    """A handshake message in a record of its own."""
    length = len(body).to_bytes(3, "big")
    fragment = bytes([kind]) + length + bytes(5) + length + body
    return b"\x16\xfe\xfd" + bytes(8) + struct.pack("!H", len(fragment)) + fragment


def ike(request: bytes, notice: int) -> bytes:
    header = request[:8] + bytes(8) + b"\x29\x20\x22\x20" + struct.pack("!II", 0, 36)
    return header + b"\0\0\0\x08\0\0" + struct.pack("!H", notice)


def l2tp(request: bytes, message: int) -> bytes:
    attributes = b"\x80\x08\0\0\0\0" + struct.pack("!H", message) + b"\x80\x09\0\0\0\7lns"
    return struct.pack("!HH", 0xC802, 12 + len(attributes)) + request[-2:] + bytes(6) + attributes


RING = bytes(range(33, 127))

REPLIES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "dns": (dns, "DNS: NOERROR, 1 answer"),
    "mdns": (lambda r: r[:2] + b"\x84\0\0\1\0\0\0\0\0\0" + r[12:], "mDNS: NOERROR, 0 answers"),
    "netbios": (
        lambda r: (
            r[:2]
            + b"\x84\0\0\0\0\1\0\0\0\0"
            + r[12:]
            + bytes(4)
            + b"\0\x31\2"
            + b"SERVER         \0\4\0LAB            \0\x84\0"
        ),
        "NetBIOS: SERVER, LAB",
    ),
    "snmp": (snmp, 'SNMP: "a\\x1b[2Jrouter"'),
    "kerberos": (kerberos, "Kerberos: KDC_ERR_PREAUTH_REQUIRED"),
    "ntp": (lambda r: b"\x24\2" + bytes(22) + r[40:48] + bytes(16), "NTP: stratum 2"),
    "stun": (stun, "STUN: we are 192.0.2.2:4660"),
    "tftp": (lambda _: b"\0\5\0\1File not found\0", 'TFTP: error 1 "File not found"'),
    "radius": (
        lambda r: b"\2" + r[1:2] + b"\0\x19" + bytes(16) + b"\x12\5ok!",
        "RADIUS: Access-Accept",
    ),
    "rpc": (lambda r: r[:4] + b"\0\0\0\1" + bytes(16), "RPC: success"),
    "coap": (lambda r: b"\x64\x45" + r[2:8] + b"\xc1\x28\xff</a>", "CoAP: 2.05 Content"),
    "sip": (
        lambda r: b"SIP/2.0 200 OK\r\nServer: k\r\nCall-ID: " + r.split(b"Call-ID: ")[1][:32] + b"\r\n\r\n",
        'SIP: 200 OK from "k"',
    ),
    "ssdp": (lambda _: b"HTTP/1.1 200 OK\r\nST: x\r\nSERVER: Box UPnP/1.1\r\n\r\n", 'SSDP: "Box UPnP/1.1"'),
    "memcached": (lambda r: r[:8] + b"VERSION 1.6.18\r\n", "memcached: VERSION 1.6.18"),
    "a2s": (lambda _: b"\xff\xff\xff\xffA\1\2\3\4", "A2S: challenge"),
    "echo": (lambda r: r, "echo: the same bytes"),
    "daytime": (lambda _: b"21 NOV 2026 09:12:47 UTC\r\n", 'daytime: "21 NOV 2026 09:12:47 UTC"'),
    "chargen": (lambda _: RING[:72] + b"\r\n" + RING[1:73] + b"\r\n", "chargen: 148 characters"),
    "quic": (
        lambda r: b"\xc0\0\0\0\0" + r[14:23] + r[5:14] + b"\0\0\0\1\x0a\x1a\x2a\x3a\xff\0\0\x1d",
        "QUIC: version 1, draft-29",
    ),
    "dtls": (lambda _: dtls(3, b"\xfe\xff\4abcd"), "DTLS: HelloVerifyRequest"),
    "ike": (lambda r: ike(r, 14), "IKEv2: NO_PROPOSAL_CHOSEN"),
    "ike-nat": (lambda r: bytes(4) + ike(r[4:], 16390), "IKEv2: COOKIE"),
    "wireguard": (lambda r: b"\3\0\0\0" + r[4:8] + bytes(56), "WireGuard: cookie reply"),
    "openvpn": (
        lambda r: b"\x40" + bytes(8) + b"\1\0\0\0\0" + r[1:9] + bytes(4),
        "OpenVPN: server's hard reset",
    ),
    "l2tp": (lambda r: l2tp(r, 2), 'L2TP: SCCRP from "lns"'),
    "gtp": (lambda r: b"\x32\2\0\6" + bytes(4) + r[8:10] + b"\0\0\x0e\1", "GTP: echo response"),
    "gtp2": (lambda r: b"\x40\2\0\x09" + r[4:8] + b"\3\0\1\0\1", "GTPv2: echo response"),
    "pfcp": (lambda r: b"\x20\2\0\x0c" + r[4:8] + b"\0\x60\0\4\1\2\3\4", "PFCP: heartbeat response"),
    "line": (lambda r: r, "echo"),
}
"""name: (request -> reply, what recognise says)"""

MORE: list[tuple[str, Callable[[bytes], bytes], str]] = [
    ("dns", lambda r: r[:2] + b"\x80\5\0\0\0\0\0\0\0\0", "DNS: REFUSED, 0 answers"),
    ("ntp", lambda r: b"\xe4\0" + bytes(22) + r[40:48] + bytes(16), "NTP: not synchronised"),
    (
        "ntp",
        lambda r: b"\xe4\0" + bytes(10) + b"RATE" + bytes(8) + r[40:48] + bytes(16),
        'NTP: kiss-o\'-death "RATE"',
    ),
    ("stun", lambda r: b"\1\x11\0\x0c" + r[4:20] + b"\0\x09\0\x08\0\0\4\1Nope", 'STUN: error 401 "Nope"'),
    ("tftp", lambda _: b"\0\3\0\1hello", "TFTP: data, 5 bytes"),
    (
        "rpc",
        lambda r: r[:4] + b"\0\0\0\1" + bytes(12) + b"\0\0\0\2" + bytes(8),
        "RPC: other versions",
    ),
    ("rpc", lambda r: r[:4] + b"\0\0\0\1\0\0\0\1\0\0\0\1\0\0\0\5", "RPC: credentials refused"),
    ("coap", lambda r: b"\x70\0" + r[2:4], "CoAP: reset"),
    ("coap", lambda r: b"\x64\x84" + r[2:8], "CoAP: 4.04 Not Found"),
    ("sip", lambda _: b"SIP/2.0 483 No\r\ni:" + UNIQUE.hex().encode() + b"\r\n\r\n", "SIP: 483 No"),
    ("a2s", lambda _: b"\xff\xff\xff\xffI\x11Fun\0map\0", 'A2S: "Fun"'),
    ("a2s", lambda _: b"\xff\xff\xff\xffm192.0.2.1:27015\0Old\0", 'A2S: "Old"'),
    ("dtls", lambda _: dtls(2, b"\xfe\xfd" + bytes(36)), "DTLS: ServerHello"),
    ("dtls", lambda _: b"\x15\xfe\xfd" + bytes(8) + b"\0\2\2\x28", "DTLS: alert handshake_failure"),
    ("ike", lambda r: r[:16] + b"\x21\x20\x22\x20" + r[20:], "IKEv2: accepts a proposal"),
    ("l2tp", lambda r: l2tp(r, 4), 'L2TP: StopCCN from "lns"'),
    ("l2tp", lambda r: b"\xc8\2\0\x0c" + r[-2:] + bytes(6), "L2TP: acknowledged"),
    ("gtp", lambda r: b"\x32\3\0\4" + bytes(4) + r[8:10] + bytes(2), "GTP: version not supported"),
    ("wireguard", lambda r: b"\2\0\0\0abcd" + r[4:8] + bytes(80), "WireGuard: handshake response"),
]
"""Other answers: (name, request -> reply, what recognise says)"""
