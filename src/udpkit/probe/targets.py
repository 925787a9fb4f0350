"""Hosts and ports as they are typed: names, addresses, networks, ranges, lists, files."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path

from udpkit.facts import Address
from udpkit.probe.protocols import PROTOCOLS
from udpkit.probe.wire import Target
from udpkit.sockets.opening import endpoint

MOST_HOSTS = 65_536
MOST_BYTES = 4 << 20
"""Of a file of hosts or ports."""
OTHER_VERSION = {socket.EAI_ADDRFAMILY, socket.EAI_NODATA}
"""What getaddrinfo(3) says of a name or address that has none of the version asked for."""


class BadTarget(ValueError):
    """What was typed is no host or no port; one line says what."""


def parse_targets(
    hosts: Sequence[str], ports: Sequence[int], version: int | None, interface: str | None = None
) -> list[Target]:
    """Every address of every host, each once, with all the ports.

    hosts: names, addresses, networks (192.0.2.0/24), and @FILE with one in a line. version: 4 or 6 for
    only those addresses, None for both. interface: where link-local addresses without a scope are. Raises
    BadTarget.
    """
    targets: dict[Address, Target] = {}
    for text in _words(hosts, "host"):
        for found in _addresses(text, version):
            address = with_scope(found, interface)
            targets.setdefault(address, Target(text, address, ports))
            if len(targets) > MOST_HOSTS:
                raise BadTarget(f"more than {MOST_HOSTS:,} addresses: probe fewer at a time")
    return list(targets.values())


def parse_ports(texts: Sequence[str]) -> list[int]:
    """Ports in the order in which they were asked for, each once.

    texts: numbers, ranges (6990-7002), service names, lists of those (53,123), and @FILE with any in a line.
    Raises BadTarget.
    """
    return list(dict.fromkeys(port for text in _words(texts, "port") for port in _range(text)))


def _words(texts: Sequence[str], what: str) -> Iterator[str]:
    for text in texts:
        if text.startswith("@"):
            yield from _lines(text[1:], what)
        else:
            yield from _split(text, what)


def _split(text: str, what: str) -> Iterable[str]:
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise BadTarget(f"there is an empty {what} in “{text}”")
    return words


def _lines(path: str, what: str) -> Iterator[str]:
    """The words of a file; # begins a comment."""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise BadTarget(f"{path}: {error.strerror}") from error
    if len(raw) > MOST_BYTES:
        raise BadTarget(f"{path}: longer than {MOST_BYTES >> 20} MiB")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadTarget(f"{path}: not a text file") from error
    words = [word for line in text.splitlines() for word in line.partition("#")[0].split()]
    if not words:
        raise BadTarget(f"{path}: there is no {what} in it")
    for word in words:
        yield from _split(word, what)


def _range(text: str) -> Iterable[int]:
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal():
        low, high = _port(first), _port(last)
        if low > high:
            raise BadTarget(f"the range {text} runs backwards")
        return range(low, high + 1)
    return (_port(text),)


def _port(text: str) -> int:
    if text.isascii() and text.isdecimal():
        number = int(text[:10])
        if not 1 <= number <= 65_535:
            raise BadTarget(f"port {text} is not between 1 and 65535")
        return number
    if text in PROTOCOLS and PROTOCOLS[text].ports:
        return PROTOCOLS[text].ports[0]
    try:
        return socket.getservbyname(text, "udp")
    except (OSError, ValueError) as error:
        raise BadTarget(f"“{text}” is neither a port nor a UDP service's name") from error


def _addresses(text: str, version: int | None) -> Iterator[Address]:
    if "/" in text:
        yield from _network(text, version)
        return
    family = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}[version]
    try:
        found = socket.getaddrinfo(text, None, family, socket.SOCK_DGRAM, socket.IPPROTO_UDP)
    except (OSError, UnicodeError) as error:
        if version and isinstance(error, socket.gaierror) and error.errno in OTHER_VERSION:
            raise BadTarget(f"{text} has no IPv{version} address") from error
        reason = error.strerror if isinstance(error, socket.gaierror) else None
        raise BadTarget(f"{text}: {reason or 'no such name'}") from error
    for entry in found:
        yield probed(endpoint(entry[4]).address, text)  # type: ignore[arg-type]


def _network(text: str, version: int | None) -> Iterator[Address]:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise BadTarget(f"“{text}” is not a network: 192.0.2.0/24") from error
    if version not in (None, network.version):
        raise BadTarget(f"{text} is not an IPv{version} network")
    if network.num_addresses > MOST_HOSTS:
        raise BadTarget(f"{text} has more than {MOST_HOSTS:,} addresses: probe fewer at a time")
    for address in network.hosts():
        yield probed(address, text)


def probed(address: Address, text: str) -> Address:
    """The address, if one host has it. Raises BadTarget: many would answer a broadcast."""
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise BadTarget(f"{text} is no host's address: udpkit nc -b sends to groups and broadcasts")
    if address in (IPv4Address(0), IPv6Address(0)):
        raise BadTarget(f"{text} is no host's address: use 127.0.0.1 or ::1 for this host")
    return address


def with_scope(address: Address, interface: str | None) -> Address:
    """A link-local address with the interface that it is beyond. Raises BadTarget if nobody said which."""
    if not isinstance(address, IPv6Address) or not address.is_link_local or address.scope_id:
        return address
    if interface is None:
        raise BadTarget(f"{address} is link-local: add its interface, {address}%eth0")
    try:
        return IPv6Address(f"{address}%{socket.if_nametoindex(interface)}")
    except OSError as error:
        raise BadTarget(f"--interface {interface}: {os.strerror(errno.ENODEV)}") from error
