"""Services that know names: DNS, multicast DNS, NetBIOS."""

from __future__ import annotations

from udpkit.facts.text import in_one_line
from udpkit.probe.protocols.protocol import protocol
from udpkit.probe.protocols.reading import Cursor, NotAnAnswer, insist

NBSTAT = b"\x20CK" + b"A" * 30 + b"\0\0\x21\0\1"
"""The name `*` in NetBIOS's half-ASCII (RFC 1001, section 14.1), type NBSTAT, class IN."""


def dns_query(unique: bytes, name: str, kind: str) -> bytes:
    """A question of type `kind` (RFC 1035, section 4.1). Raises ValueError for what is no name."""
    import dns.exception
    import dns.flags
    import dns.message

    # The root's servers are what every DNS server can speak about from memory: nothing to recurse for.
    flags = 0 if name == "." else dns.flags.RD
    try:
        query = dns.message.make_query(name, kind, flags=flags, id=int.from_bytes(unique[:2], "big"))
        return query.to_wire()
    except dns.exception.DNSException as error:
        raise ValueError(f"dns: {name!a} is not a DNS name: {error}") from error


def dns_answer(request: bytes, reply: Cursor) -> str:
    data = reply.rest()
    # Identifier, QR and opcode come first: they need no library, and rule out nearly everything.
    insist(len(data) >= 12 and data[:2] == request[:2] and data[2] >> 3 == 0b10000)
    import dns.exception
    import dns.message
    import dns.rcode

    try:
        answer = dns.message.from_wire(data, ignore_trailing=True)
        insist(dns.message.from_wire(request).is_response(answer))
    except dns.exception.DNSException as error:
        raise NotAnAnswer from error
    count = sum(len(rrset) for rrset in answer.answer)
    return f"{dns.rcode.to_text(answer.rcode())}, {count} answer{'s' if count != 1 else ''}"


def mdns_query(unique: bytes, name: str) -> bytes:
    return dns_query(unique, name, "PTR" if name.startswith("_") else "ANY")


def netbios_answer(request: bytes, reply: Cursor) -> str:
    """A NODE STATUS RESPONSE (RFC 1002, section 4.2.18): its first names, without the spaces behind them."""
    reply.expect(request[:2])
    insist(reply.number(2) >> 11 == 0b10000)  # a response, to a query
    reply.expect(bytes(2) + b"\0\1")
    reply.take(4)
    reply.expect(NBSTAT)
    reply.take(4 + 2)
    entries = [reply.take(18) for _ in range(reply.number(1))]
    names = dict.fromkeys(entry[:15].decode("cp437").rstrip(" \0") for entry in entries)
    return in_one_line(", ".join(list(names)[:4])) or "no names"


FAMILY = (
    protocol(
        "dns",
        "DNS",
        (53,),
        lambda unique, name: dns_query(unique, name, "NS" if name == "." else "A"),
        dns_answer,
        argument=("name to ask for", "."),
    ),
    protocol(
        "mdns",
        "mDNS",
        (5353,),
        mdns_query,  # as it does not come from port 5353, it is a legacy query (RFC 6762, section 6.7)
        dns_answer,
        argument=("name to ask for", "_services._dns-sd._udp.local"),
        quiet="a responder answers only for names that it has, and only on its own link (RFC 6762)",
    ),
    protocol(
        "netbios",
        "NetBIOS",
        (137,),
        lambda unique, _: unique[:2] + bytes(2) + b"\0\1" + bytes(6) + NBSTAT,  # RFC 1002, section 4.2.17
        netbios_answer,
    ),
)
