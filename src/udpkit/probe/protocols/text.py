"""Services that speak in words: SIP, SSDP, memcached, game servers, syslog, and those of RFC 862 to 867."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from udpkit.probe.protocols.protocol import never_answers, protocol
from udpkit.probe.protocols.reading import Cursor, insist, quoted


def header(message: bytes, name: bytes) -> bytes | None:
    """The value of the first header of this name, in SIP as in HTTP."""
    for line in message.split(b"\r\n"):
        found, colon, value = line.partition(b":")
        if colon and found.strip().lower() == name:
            return value.strip()
    return None


def one_word(name: str, word: str) -> str:
    """The argument, which is to stand in a line of a header. Raises ValueError if it has spaces."""
    if " " in word:
        raise ValueError(f"{name}: {word!a} has a space in it")
    return word


def sip_options(unique: bytes, domain: str) -> bytes:
    """OPTIONS (RFC 3261, section 11) that nobody may forward; rport has it answered to where it came from."""
    mark = unique.hex()
    lines = (
        f"OPTIONS sip:{one_word('sip', domain)} SIP/2.0",
        f"Via: SIP/2.0/UDP udpkit.invalid;branch=z9hG4bK{mark[:16]};rport",  # RFC 3581
        "Max-Forwards: 0",
        f"From: <sip:udpkit@udpkit.invalid>;tag={mark[:8]}",
        f"To: <sip:{domain}>",
        f"Call-ID: {mark}",
        "CSeq: 1 OPTIONS",
        "Content-Length: 0",
    )
    return "\r\n".join((*lines, "", "")).encode()


def sip_answer(request: bytes, reply: Cursor) -> str:
    reply.expect(b"SIP/2.0 ")
    status, rest = reply.until(b"\r\n"), reply.rest()
    ours, theirs = (header(one, b"call-id") for one in (request, rest))
    insist(status[:3].isdigit() and (theirs or header(rest, b"i")) == ours)  # `i` is its short form
    server = header(rest, b"server")
    return quoted(status).strip('"') + (f" from {quoted(server)}" if server else "")


def ssdp_search(_: bytes, target: str) -> bytes:
    """M-SEARCH (UPnP Device Architecture 1.1, section 1.3)."""
    lines = (
        "M-SEARCH * HTTP/1.1",
        "HOST: 239.255.255.250:1900",
        'MAN: "ssdp:discover"',
        "MX: 1",  # the answer may take so many seconds
        f"ST: {one_word('ssdp', target)}",
    )
    return "\r\n".join((*lines, "", "")).encode()


def ssdp_answer(_: bytes, reply: Cursor) -> str:
    reply.expect(b"HTTP/1.1 200 ")
    rest = reply.rest()
    target, server = header(rest, b"st"), header(rest, b"server")
    insist(target is not None)
    return quoted(server or target or b"")


def memcached_version(unique: bytes, _: str) -> bytes:
    """The UDP frame header has our number, and: datagram 0 of 1 (memcached's doc/protocol.txt)."""
    return unique[:2] + b"\0\0\0\1\0\0version\r\n"


def memcached_answer(request: bytes, reply: Cursor) -> str:
    reply.expect(request[:4])
    reply.take(4)
    line = reply.until(b"\r\n")
    insist(line.startswith((b"VERSION ", b"ERROR", b"CLIENT_ERROR", b"SERVER_ERROR")))
    return quoted(line).strip('"')


SOURCE_QUERY = b"\xff\xff\xff\xffTSource Engine Query\0"  # A2S_INFO, Valve's "Server queries"


def a2s_answer(_: bytes, reply: Cursor) -> str:
    reply.expect(SOURCE_QUERY[:4])
    kind = reply.take(1)
    insist(kind in (b"A", b"I", b"m"))
    if kind == b"A":
        insist(reply.left == 4)
        return "challenge"
    if kind == b"I":
        reply.take(1)
    else:
        reply.until(bytes(1))  # GoldSource says its address first
    return quoted(reply.until(bytes(1)))


def echo_answer(request: bytes, reply: Cursor) -> str:
    reply.expect(request)
    insist(not reply.left)
    return "the same bytes"


def daytime_answer(_: bytes, reply: Cursor) -> str:
    """RFC 867 leaves the form open; all that run say hours:minutes:seconds in a line of ASCII."""
    line = reply.until(b"\n")
    insist(
        not reply.left
        and line.isascii()
        and line.count(b":") == 2
        and any(map(bytes.isdigit, line.split(b":")))
    )
    return quoted(line)


def chargen_answer(_: bytes, reply: Cursor) -> str:
    """RFC 864's pattern: a ring of printing characters, each line one further on."""
    count, line = reply.left, reply.take(min(reply.left, 70))
    insist(len(line) >= 10 and all(32 <= one < 127 for one in line))
    insist(all((after - before) % 95 in (1, 94) or 32 in (before, after) for before, after in pairwise(line)))
    return f"{count} characters"


def anything(unique: bytes, _: str) -> bytes:
    return unique.hex().encode() + b"\n"


LINE = replace(
    protocol("line", "line of text", (), lambda _unique, _: b"udpkit probe\n", echo_answer),
    recognise=lambda request, reply: "echo" if reply == request else None,
)
"""For a service that is not known. What an answer means cannot be said, unless it is an echo."""

FAMILY = (
    protocol(
        "sip",
        "SIP",
        (5060,),
        sip_options,
        sip_answer,
        argument=("domain to ask about", "udpkit.invalid"),
    ),
    protocol(
        "ssdp",
        "SSDP",
        (1900,),
        ssdp_search,
        ssdp_answer,
        argument=("search target", "upnp:rootdevice"),
        quiet="a device answers only for what it is, and only its own link",
    ),
    protocol("memcached", "memcached", (11211,), memcached_version, memcached_answer),
    protocol("a2s", "A2S", tuple(range(27015, 27021)), lambda _unique, _: SOURCE_QUERY, a2s_answer),
    protocol(
        "syslog",
        "syslog",
        (514,),
        lambda _unique, _: b"<15>1 - - udpkit - - - probe",  # RFC 5424, section 6: user, debug
        never_answers,
        quiet="syslog over UDP has no answers (RFC 5426)",
    ),
    protocol("echo", "echo", (7,), anything, echo_answer),  # RFC 862
    protocol("daytime", "daytime", (13,), anything, daytime_answer),
    protocol("chargen", "chargen", (19,), anything, chargen_answer),
    LINE,
)
