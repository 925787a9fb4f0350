"""Captures."""

from __future__ import annotations

from udpkit import _native
from udpkit.facts import Datagram, Endpoint, IcmpError, Reference, Source


def read_pcap(data: bytes, path: str, *, source: int) -> tuple[Source, list[Datagram | IcmpError]]:
    """Read the bytes of a classic pcap file; its messages come in the file's order.

    What lies before damage is read, and `Source.damage` says what was wrong. Raises ValueError if it is no
    pcap file at all.
    """
    file = _native.read_pcap(data)
    messages: list[Datagram | IcmpError] = [
        Datagram(
            seen=Reference(source, packet=datagram.packet),
            time_ns=datagram.time_ns,
            source=Endpoint(datagram.source, datagram.source_port),
            destination=Endpoint(datagram.destination, datagram.destination_port),
            length=datagram.length,
            payload=datagram.payload,
        )
        for datagram in file.datagrams
    ]
    messages += [
        IcmpError(
            seen=Reference(source, packet=error.packet),
            time_ns=error.time_ns,
            sender=error.sender,
            receiver=error.receiver,
            icmp_type=error.icmp_type,
            code=error.code,
            quoted_source=Endpoint(error.quoted.source, error.quoted.source_port),
            quoted_destination=Endpoint(error.quoted.destination, error.quoted.destination_port),
            mtu=error.mtu,
        )
        for error in file.icmp_errors
        if error.quoted is not None
    ]
    messages.sort(key=lambda message: message.seen.packet or 0)
    return (
        Source(
            path=path,
            kind="pcap",
            packets=file.packets,
            datagrams=len(file.datagrams),
            icmp_errors=len(file.icmp_errors),
            skipped=file.skipped,
            damage=[file.damage] if file.damage else [],
        ),
        messages,
    )
