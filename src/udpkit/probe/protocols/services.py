"""Services with small binary messages: NTP, STUN, TFTP, RADIUS, RPC, CoAP."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from udpkit.probe.protocols.protocol import protocol
from udpkit.probe.protocols.reading import Cursor, insist, named, quoted

# NTP: RFC 5905, section 7.3

NTP_CLIENT, NTP_SERVER = 0x23, 4  # version 4, mode 3; mode 4
UNSYNCHRONISED = 3  # the leap indicator's


def ntp_request(unique: bytes, _: str) -> bytes:
    """Random bytes take the place of our time: the server hands them back, and learns nothing (RFC 9109)."""
    return bytes([NTP_CLIENT]) + bytes(39) + unique[:8]


def ntp_answer(request: bytes, reply: Cursor) -> str:
    first, stratum = reply.number(1), reply.number(1)
    insist(first & 7 == NTP_SERVER and 3 <= first >> 3 & 7 <= 4)
    reply.take(2 + 4 + 4)
    reference = reply.take(4)
    reply.take(8)
    reply.expect(request[40:48])  # the origin timestamp is what we called our time of sending
    reply.take(16)
    if stratum == 0 and any(reference):
        return f"kiss-o'-death {quoted(reference.rstrip(bytes(1)))}"  # section 7.4
    return "not synchronised" if first >> 6 == UNSYNCHRONISED else f"stratum {stratum}"


# STUN: RFC 8489, sections 5 and 14

BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111
MAGIC = b"\x21\x12\xa4\x42"
MAPPED_ADDRESS, ERROR_CODE, XOR_MAPPED_ADDRESS = 0x0001, 0x0009, 0x0020


def stun_request(unique: bytes, _: str) -> bytes:
    return struct.pack("!HH", BINDING_REQUEST, 0) + MAGIC + unique[:12]


def stun_answer(request: bytes, reply: Cursor) -> str:
    kind, length = reply.number(2), reply.number(2)
    insist(kind in (BINDING_SUCCESS, BINDING_ERROR))
    reply.expect(request[4:20])
    attributes, body = dict[int, Cursor](), Cursor(reply.take(length))
    while body.left:
        name, size = body.number(2), body.number(2)
        attributes.setdefault(name, Cursor(body.take(size)))
        body.take(min(-size % 4, body.left))
    if kind == BINDING_ERROR:
        error = attributes.get(ERROR_CODE, Cursor(b""))
        error.take(2)
        return f"error {error.number(1) * 100 + error.number(1)} {quoted(error.rest())}"
    for name, mask in ((XOR_MAPPED_ADDRESS, request[4:20]), (MAPPED_ADDRESS, bytes(16))):
        if mapped := attributes.get(name):
            version = mapped.number(2)
            port, packed = mapped.number(2), mapped.rest()
            insist((version, len(packed)) in ((1, 4), (2, 16)))
            address = ip_address(bytes(one ^ other for one, other in zip(packed, mask, strict=False)))
            host = f"[{address}]" if version == 2 else address
            return f"we are {host}:{port ^ int.from_bytes(mask[:2], 'big')}"
    return "binding success"


# TFTP: RFC 1350, section 5

READ, DATA, ERROR = 1, 3, 5
FIRST_BLOCK = b"\0\1"
LAST_ERROR = 8  # RFC 2347's


def tftp_request(_: bytes, name: str) -> bytes:
    return struct.pack("!H", READ) + name.encode() + b"\0octet\0"


def tftp_answer(_: bytes, reply: Cursor) -> str:
    kind = reply.number(2)
    if kind == ERROR:
        code = reply.number(2)
        insist(code <= LAST_ERROR)
        return f"error {code} {quoted(reply.until(bytes(1)))}"
    insist(kind == DATA)
    reply.expect(FIRST_BLOCK)
    insist(reply.left <= 512)
    return f"data, {reply.left} bytes"


# RADIUS: Status-Server, RFC 5997; the packet, RFC 2865, section 3

STATUS_SERVER, NAS_IDENTIFIER, MESSAGE_AUTHENTICATOR = 12, 32, 80
RADIUS_ANSWERS = {2: "Access-Accept", 3: "Access-Reject", 5: "Accounting-Response", 11: "Access-Challenge"}


def radius_request(unique: bytes, secret: str) -> bytes:
    """The Message-Authenticator is over the packet with zeros in its own place (RFC 2869, section 5.14)."""
    import hmac

    names = bytes([NAS_IDENTIFIER, 8]) + b"udpkit" + bytes([MESSAGE_AUTHENTICATOR, 18])
    identifier, authenticator = unique[0] ^ unique[-1], unique
    head = struct.pack("!BBH", STATUS_SERVER, identifier, 20 + len(names) + 16) + authenticator + names
    return head + hmac.digest(secret.encode(), head + bytes(16), "md5")


def radius_answer(request: bytes, reply: Cursor) -> str:
    code = reply.number(1)
    insist(code in RADIUS_ANSWERS)
    reply.expect(request[1:2])
    length = reply.number(2)
    reply.take(16)  # whether it is made with our secret cannot be told without it
    attributes = Cursor(reply.take(length - 20))
    while attributes.left:
        attributes.take(1)
        attributes.take(attributes.number(1) - 2)
    return RADIUS_ANSWERS[code]


# RPC: RFC 5531, section 9; the port mapper, RFC 1833

CALL, REPLY, RPC_VERSION, PORTMAPPER = 0, 1, 2, 100000
ACCEPTED = {0: "success", 1: "program unavailable", 2: "other versions", 3: "procedure unavailable"}


def rpc_request(unique: bytes, program: str) -> bytes:
    """NULL, which every program has and which does nothing, without credentials."""
    if not (program.isascii() and program.isdigit() and int(program) < 1 << 32):
        raise ValueError(f"rpc: {program!a} is not a program's number, such as {PORTMAPPER}")
    return unique[:4] + struct.pack("!9I", CALL, RPC_VERSION, int(program), 2, 0, 0, 0, 0, 0)


def rpc_answer(request: bytes, reply: Cursor) -> str:
    reply.expect(request[:4])
    insist(reply.number(4) == REPLY)
    denied = reply.number(4)
    insist(denied <= 1)
    if denied:
        return ("RPC version refused", "credentials refused")[min(reply.number(4), 1)]
    reply.take(4)
    length = reply.number(4)
    reply.take(length + -length % 4)
    return named(ACCEPTED, reply.number(4))


# CoAP: RFC 7252, section 3; /.well-known/core, RFC 6690

CON, ACK, RST = 0, 2, 3
COAP_GET, URI_PATH = 0x01, 11
COAP_CODES = {
    0x45: "Content",
    0x80: "Bad Request",
    0x81: "Unauthorized",
    0x83: "Forbidden",
    0x84: "Not Found",
}


def coap_request(unique: bytes, path: str) -> bytes:
    """A confirmable GET; the first four random bytes are its token, the next two its message ID."""
    options, delta = b"", URI_PATH
    for word in path.strip("/").encode().split(b"/"):
        extended = bytes([len(word) - 13]) if len(word) >= 13 else b""  # section 3.1
        options += bytes([delta << 4 | min(len(word), 13)]) + extended + word
        delta = 0
    return bytes([1 << 6 | CON << 4 | 4, COAP_GET]) + unique[4:6] + unique[:4] + options


def coap_answer(request: bytes, reply: Cursor) -> str:
    first, code, message_id = reply.number(1), reply.number(1), reply.take(2)
    kind, token = first >> 4 & 3, reply.take(first & 15)
    insist(first >> 6 == 1)
    insist(kind not in (ACK, RST) or message_id == request[2:4])
    if code == 0 and kind in (ACK, RST) and not token:
        return "acknowledged" if kind == ACK else "reset"
    insist(code >> 5 in (2, 4, 5) and token == request[4:8])
    return f"{code >> 5}.{code & 31:02} {COAP_CODES.get(code, '')}".strip()


FAMILY = (
    protocol("ntp", "NTP", (123,), ntp_request, ntp_answer),
    protocol("stun", "STUN", (3478, 19302), stun_request, stun_answer),
    protocol(
        "tftp",
        "TFTP",
        (69,),
        tftp_request,
        tftp_answer,
        argument=("file to read", "udpkit-probe"),
        other_port=True,
    ),
    protocol(
        "radius",
        "RADIUS",
        (1812, 1813, 1645, 1646),
        radius_request,
        radius_answer,
        argument=("shared secret", "testing123"),
        quiet="a server ignores a client or a secret that it does not know, and may have Status-Server off",
    ),
    protocol("rpc", "RPC", (111,), rpc_request, rpc_answer, argument=("program's number", str(PORTMAPPER))),
    protocol("coap", "CoAP", (5683,), coap_request, coap_answer, argument=("path", ".well-known/core")),
)
