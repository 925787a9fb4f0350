"""Handshakes of encrypted transports: QUIC, DTLS, IKEv2. Each is asked for its first answer only."""

from __future__ import annotations

import struct

from udpkit.probe.protocols.protocol import protocol
from udpkit.probe.protocols.reading import Cursor, insist, named


def sized(octets: int, *parts: bytes) -> bytes:
    """The parts behind their length, a number of so many octets."""
    content = b"".join(parts)
    return len(content).to_bytes(octets, "big") + content


def words(*numbers: int) -> bytes:
    return struct.pack(f"!{len(numbers)}H", *numbers)


# QUIC: RFC 9000, sections 6 and 17.2.1; RFC 8999

LONG_HEADER = 0x80
UNKNOWN_VERSION = b"\x1a\x2a\x3a\x4a"  # of the pattern 0x?a?a?a?a, which no server speaks (section 15)
SMALLEST_INITIAL = 1200  # bytes; a server drops what is shorter (section 14.1)
QUIC_VERSIONS = {1: "1", 0x6B3343CF: "2", 0xFACEB002: "mvfst", 0x51303433: "Q043", 0x51303530: "Q050"}


def quic_request(unique: bytes, _: str) -> bytes:
    head = bytes([LONG_HEADER | 0x40]) + UNKNOWN_VERSION + sized(1, unique[:8]) + sized(1, unique[8:])
    left = SMALLEST_INITIAL - len(head) - 3
    length = words(0x4000 | left)  # a number of 14 bits (section 16)
    return head + sized(1) + length + (unique * 75)[:left]  # no token, and what would be encrypted


def quic_answer(request: bytes, reply: Cursor) -> str:
    """A Version Negotiation packet, whose connection IDs are ours with their places changed."""
    insist(bool(reply.number(1) & LONG_HEADER))
    reply.expect(bytes(4) + request[14:23] + request[5:14])
    insist(bool(reply.left) and not reply.left % 4)
    versions = [reply.number(4) for _ in range(min(reply.left // 4, 16))]
    spoken = [quic_version(one) for one in versions if one & 0x0F0F0F0F != 0x0A0A0A0A]
    return f"version {', '.join(spoken) or 'none'}"


def quic_version(number: int) -> str:
    if number >> 8 == 0xFF0000:
        return f"draft-{number & 0xFF}"
    return QUIC_VERSIONS.get(number, f"{number:#x}")


# DTLS: RFC 6347, sections 4.1 and 4.2; the ClientHello, RFC 5246, section 7.4.1.2

ALERT, HANDSHAKE, CLIENT_HELLO = 21, 22, 1
DTLS_1_0, DTLS_1_2 = 0xFEFF, 0xFEFD
CIPHER_SUITES = (
    *(0xC02B, 0xC02C, 0xCCA9, 0xC02F, 0xC030, 0xCCA8),  # ECDHE with ECDSA or RSA, AEAD
    *(0xC0AE, 0xC0A8, 0x00A8),  # AES-CCM-8 and pre-shared keys, as CoAP wants them
    *(0xC013, 0xC014, 0x009C, 0x002F, 0x0035),  # older ones
    0x00FF,  # secure renegotiation (RFC 5746)
)
EXTENSIONS = {
    10: sized(2, words(29, 23, 24)),  # supported_groups: x25519, P-256, P-384
    11: sized(1, b"\0"),  # ec_point_formats: uncompressed
    13: sized(2, words(0x0403, 0x0503, 0x0804, 0x0805, 0x0401, 0x0501, 0x0201)),  # signature_algorithms
    23: b"",  # extended_master_secret
}
DTLS_ANSWERS = {2: "ServerHello", 3: "HelloVerifyRequest"}
ALERTS = {
    40: "handshake_failure",
    47: "illegal_parameter",
    50: "decode_error",
    70: "protocol_version",
    80: "internal_error",
}


def dtls_request(unique: bytes, _: str) -> bytes:
    extensions = (words(kind) + sized(2, data) for kind, data in EXTENSIONS.items())
    hello = b"".join(
        (
            words(DTLS_1_2) + 2 * unique,
            bytes(2),  # no session to resume, no cookie yet
            sized(2, words(*CIPHER_SUITES)),
            b"\1\0",  # no compression
            sized(2, *extensions),
        )
    )
    length = len(hello).to_bytes(3, "big")
    fragment = bytes([CLIENT_HELLO]) + length + bytes(2 + 3) + length + hello  # message 0, whole
    return struct.pack("!BH8x", HANDSHAKE, DTLS_1_0) + sized(2, fragment)  # epoch 0, record 0


def dtls_answer(_: bytes, reply: Cursor) -> str:
    kind, version, epoch = reply.number(1), reply.number(2), reply.number(2)
    insist(version in (DTLS_1_0, DTLS_1_2) and epoch == 0)
    reply.take(6)
    fragment = Cursor(reply.take(reply.number(2)))
    if kind == ALERT:
        fragment.take(1)
        return f"alert {named(ALERTS, fragment.number(1))}"
    message = fragment.number(1)
    insist(kind == HANDSHAKE and message in DTLS_ANSWERS)
    fragment.take(3 + 2 + 3)
    fragment.take(fragment.number(3))
    return DTLS_ANSWERS[message]


# IKEv2: IKE_SA_INIT, RFC 7296, sections 1.2 and 3

SA, KE, NONCE, NOTIFY = 33, 34, 40, 41
IKE_SA_INIT, INITIATOR, RESPONSE = 34, 0x08, 0x20
ENCRYPTION, PRF, INTEGRITY, GROUP = 1, 2, 3, 4
TRANSFORMS = (
    *((ENCRYPTION, 12, 256), (ENCRYPTION, 12, 128)),  # AES-CBC
    *((PRF, 5, None), (PRF, 2, None)),  # HMAC-SHA2-256, HMAC-SHA1
    *((INTEGRITY, 12, None), (INTEGRITY, 2, None)),
    *((GROUP, 14, None), (GROUP, 19, None), (GROUP, 31, None)),
)  # (type, identifier, key length in bits)
MODP_2048 = 14
NON_ESP = bytes(4)  # on port 4500, before IKE (RFC 3948, section 2.2)
NOTICES = {
    5: "INVALID_MAJOR_VERSION",
    7: "INVALID_SYNTAX",
    14: "NO_PROPOSAL_CHOSEN",
    17: "INVALID_KE_PAYLOAD",
    24: "AUTHENTICATION_FAILED",
    16390: "COOKIE",
    16407: "REDIRECT",
}


def ike_request(unique: bytes, _: str) -> bytes:
    transforms = []
    for place, (kind, identifier, bits) in enumerate(TRANSFORMS, start=1):
        attribute = words(0x8000 | 14, bits) if bits else b""
        more = 3 if place < len(TRANSFORMS) else 0
        transforms.append(struct.pack("!BxHBxH", more, 8 + len(attribute), kind, identifier) + attribute)
    body = b"".join(transforms)
    proposal = struct.pack("!BxHBBBB", 0, 8 + len(body), 1, 1, 0, len(TRANSFORMS)) + body
    key = b"\0" + (unique * 16)[1:]  # any number below the prime serves: the exchange ends with the answer
    payloads = b"".join(
        struct.pack("!BxH", following, 4 + len(content)) + content
        for following, content in (
            (KE, proposal),
            (NONCE, words(MODP_2048, 0) + key),
            (0, unique * 2),
        )
    )
    head = unique[:8] + bytes(8) + bytes([SA, 0x20, IKE_SA_INIT, INITIATOR])
    return head + struct.pack("!II", 0, 28 + len(payloads)) + payloads


def ike_answer(request: bytes, reply: Cursor) -> str:
    reply.expect(request[:8])
    reply.take(8)
    following, version, exchange, flags = reply.take(4)
    insist(version >> 4 == 2 and exchange == IKE_SA_INIT and bool(flags & RESPONSE))
    reply.take(4 + 4)
    kind, notices = following, []
    while kind:
        following, _, size = reply.number(1), reply.number(1), reply.number(2)
        payload = Cursor(reply.take(size - 4))
        if kind == SA:
            return "accepts a proposal"
        if kind == NOTIFY:
            payload.take(2)
            notices.append(named(NOTICES, payload.number(2)))
        kind = following
    return ", ".join(notices[:4]) or "an empty answer"


def ike_answer_behind_marker(request: bytes, reply: Cursor) -> str:
    reply.expect(NON_ESP)
    return ike_answer(request[len(NON_ESP) :], reply)


MUTE_GATEWAY = "a gateway may ignore whom it has no connection for"

FAMILY = (
    protocol("quic", "QUIC", (443, 853, 8443), quic_request, quic_answer),
    protocol("dtls", "DTLS", (5684, 5349, 2083, 4433, 6514), dtls_request, dtls_answer),
    protocol("ike", "IKEv2", (500,), ike_request, ike_answer, quiet=MUTE_GATEWAY),
    protocol(
        "ike-nat",
        "IKEv2",
        (4500,),
        lambda unique, argument: NON_ESP + ike_request(unique, argument),
        ike_answer_behind_marker,
        quiet=MUTE_GATEWAY,
    ),
)
