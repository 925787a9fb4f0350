"""Services that speak ASN.1: SNMP and Kerberos."""

from __future__ import annotations

from udpkit.probe.protocols.protocol import protocol
from udpkit.probe.protocols.reading import Cursor, insist, named, quoted

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID, GENERALIZED_TIME, GENERAL_STRING, SEQUENCE = (
    0x02,
    0x03,
    0x04,
    0x05,
    0x06,
    0x18,
    0x1B,
    0x30,
)  # X.690, section 8
GET, RESPONSE = 0xA0, 0xA2  # RFC 3416, section 3
AS_REQ, AS_REP, KRB_ERROR = 0x6A, 0x6B, 0x7E  # APPLICATION 10, 11 and 30 (RFC 4120, section 5)
SYS_DESCR = bytes([0x2B, 6, 1, 2, 1, 1, 1, 0])  # 1.3.6.1.2.1.1.1.0 (RFC 3418)
NO_VALUE = {0x05: "no value", 0x80: "noSuchObject", 0x81: "noSuchInstance"}  # RFC 3416, section 3
SNMP_ERRORS = {1: "tooBig", 2: "noSuchName", 5: "genErr", 6: "noAccess", 16: "authorizationError"}
KRB_ERRORS = {
    6: "KDC_ERR_C_PRINCIPAL_UNKNOWN",
    7: "KDC_ERR_S_PRINCIPAL_UNKNOWN",
    12: "KDC_ERR_POLICY",
    14: "KDC_ERR_ETYPE_NOSUPP",
    25: "KDC_ERR_PREAUTH_REQUIRED",
    52: "KRB_ERR_RESPONSE_TOO_BIG",
    60: "KRB_ERR_GENERIC",
    68: "KDC_ERR_WRONG_REALM",
}  # RFC 4120, section 7.5.9


def ber(tag: int, *parts: bytes) -> bytes:
    """An element with its length in the shortest form, as DER wants it (X.690, section 10.1)."""
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    octets = length.to_bytes(-(-length.bit_length() // 8), "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + content


def integer(value: int) -> bytes:
    """A number that is not negative."""
    return ber(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def element(cursor: Cursor) -> tuple[int, Cursor]:
    """The next element: its tag and what is inside."""
    tag, length = cursor.number(1), cursor.number(1)
    if length >= 0x80:
        length = cursor.number(length & 0x7F)
    return tag, Cursor(cursor.take(length))


def inside(cursor: Cursor, *tags: int) -> Cursor:
    """Go down through elements of these tags, each the first in the one before."""
    for tag in tags:
        found, cursor = element(cursor)
        insist(found == tag)
    return cursor


def number(cursor: Cursor) -> int:
    content = inside(cursor, INTEGER)
    insist(content.left <= 8)  # Python refuses to print what has thousands of digits
    return content.number(content.left)


def small(unique: bytes) -> int:
    """31 random bits: a request-id is signed (RFC 3416), a nonce of many KDCs too."""
    return int.from_bytes(unique[:4], "big") >> 1


def snmp_get(unique: bytes, community: str) -> bytes:
    """GetRequest of sysDescr in SNMPv2c (RFC 1901, section 3)."""
    variables = ber(SEQUENCE, ber(SEQUENCE, ber(OID, SYS_DESCR), ber(NULL)))
    pdu = ber(GET, integer(small(unique)), integer(0), integer(0), variables)
    return ber(SEQUENCE, integer(1), ber(OCTET_STRING, community.encode()), pdu)


def snmp_pdu(message: Cursor, kind: int) -> Cursor:
    body = inside(message, SEQUENCE)
    insist(number(body) == 1)
    inside(body, OCTET_STRING)
    return inside(body, kind)


def snmp_answer(request: bytes, reply: Cursor) -> str:
    pdu = snmp_pdu(reply, RESPONSE)
    insist(number(pdu) == number(snmp_pdu(Cursor(request), GET)))
    if error := number(pdu):
        return f"error {named(SNMP_ERRORS, error)}"
    number(pdu)
    variable = inside(pdu, SEQUENCE, SEQUENCE)
    inside(variable, OID)
    tag, value = element(variable)
    return named(NO_VALUE, tag) if tag in NO_VALUE else quoted(value.rest())


def kerberos_principal(kind: int, *words: str) -> bytes:
    names = (ber(GENERAL_STRING, word.encode()) for word in words)
    return ber(SEQUENCE, ber(0xA0, integer(kind)), ber(0xA1, ber(SEQUENCE, *names)))


def kerberos_request(unique: bytes, realm: str) -> bytes:
    """An AS-REQ for the principal `udpkit`, without preauthentication (RFC 4120, section 5.4.1)."""
    body = (
        ber(BIT_STRING, bytes(5)),
        kerberos_principal(1, "udpkit"),  # NT-PRINCIPAL
        ber(GENERAL_STRING, realm.encode()),
        kerberos_principal(2, "krbtgt", realm),  # NT-SRV-INST
        None,  # from
        ber(GENERALIZED_TIME, b"19700101000000Z"),  # till: as long as the KDC allows
        None,  # rtime
        integer(small(unique)),
        ber(SEQUENCE, *map(integer, (18, 17, 20, 19, 23))),  # aes-sha1, aes-sha2, rc4
    )
    fields = (ber(0xA0 | place, field) for place, field in enumerate(body) if field is not None)
    return ber(
        AS_REQ,
        ber(
            SEQUENCE,
            ber(0xA1, integer(5)),
            ber(0xA2, integer(10)),
            ber(0xA4, ber(SEQUENCE, *fields)),
        ),
    )


def kerberos_answer(_request: bytes, reply: Cursor) -> str:
    """A KRB-ERROR or an AS-REP; neither carries our nonce in the clear."""
    tag, message = element(reply)
    insist(tag in (KRB_ERROR, AS_REP))
    fields = dict[int, Cursor]()
    body = inside(message, SEQUENCE)
    while body.left:
        place, field = element(body)
        fields.setdefault(place, field)
    version, kind, code = (fields.get(place, Cursor(b"")) for place in (0xA0, 0xA1, 0xA6))
    insist(number(version) == 5 and number(kind) == tag & 0x1F)
    return "AS-REP" if tag == AS_REP else named(KRB_ERRORS, number(code))


FAMILY = (
    protocol(
        "snmp",
        "SNMP",
        (161,),
        snmp_get,
        snmp_answer,
        argument=("community", "public"),
        quiet="an agent says nothing to a community or a client that it does not know",
    ),
    protocol(
        "kerberos",
        "Kerberos",
        (88,),
        kerberos_request,
        kerberos_answer,
        argument=("realm", "EXAMPLE.COM"),
        quiet="a KDC may say nothing about realms that it does not serve",
    ),
)
