"""A capture's messages as lines of text."""

from __future__ import annotations

from udpkit.facts import Datagram, IcmpError
from udpkit.kernel import icmp

LONGEST_PAYLOAD = 40


def line(message: Datagram | IcmpError) -> str:
    """`a:p > b:q UDP payload`, or `a > b ICMP port unreachable (c:p > d:q)` with what it quotes."""
    if isinstance(message, Datagram):
        return f"{message.source} > {message.destination} UDP {payload(message)}"
    return (
        f"{message.sender} > {message.receiver} {icmp_name(message)} "
        f"({message.quoted_source} > {message.quoted_destination})"
    )


def icmp_name(error: IcmpError) -> str:
    """`ICMP port unreachable`."""
    version = error.sender.version
    return f"{'ICMP' if version == 4 else 'ICMPv6'} {icmp.name(version, error.icmp_type, error.code)}"


def payload(datagram: Datagram) -> str:
    """What a datagram carries, escaped and cut to a few characters."""
    text = ascii(datagram.payload.removesuffix(b"\n").decode("latin-1"))[1:-1]
    return text if len(text) <= LONGEST_PAYLOAD else f"{text[:LONGEST_PAYLOAD]}…"
