"""A capture's messages as lines of text."""

from __future__ import annotations

from udpkit.facts import Datagram, IcmpError
from udpkit.facts.text import in_one_line
from udpkit.kernel import icmp

LONGEST_PAYLOAD = 40


def line(message: Datagram | IcmpError) -> str:
    """`a:p > b:q UDP payload`, or `a > b ICMP port unreachable (c:p > d:q)` with what it quotes.

    The payload is whole, less a line end; what is not UTF-8 in it is escaped.
    """
    if isinstance(message, Datagram):
        return f"{message.source} > {message.destination} UDP {_text(message)}"
    return (
        f"{message.sender} > {message.receiver} {icmp_name(message)} "
        f"({message.quoted_source} > {message.quoted_destination})"
    )


def icmp_name(error: IcmpError) -> str:
    """`ICMP port unreachable`."""
    version = error.sender.version
    return f"{'ICMP' if version == 4 else 'ICMPv6'} {icmp.name(*error.kind)}"


def payload(datagram: Datagram) -> str:
    """What a datagram carries, escaped and cut to a few characters."""
    text = in_one_line(_text(datagram))
    return text if len(text) <= LONGEST_PAYLOAD else f"{text[:LONGEST_PAYLOAD]}…"


def _text(datagram: Datagram) -> str:
    return datagram.payload.removesuffix(b"\n").decode("utf-8", "backslashreplace")
