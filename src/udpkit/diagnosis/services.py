"""What a UDP port tells about the protocol behind it."""

from __future__ import annotations

from udpkit.facts import Address, Endpoint, NamedIPv4, NamedIPv6

ANSWERING = {
    53: "DNS",
    88: "Kerberos",
    111: "rpcbind",
    123: "NTP",
    161: "SNMP",
    389: "CLDAP",
    443: "QUIC",
    464: "kpasswd",
    500: "IKE",
    623: "IPMI",
    853: "DNS over QUIC",
    1194: "OpenVPN",
    1645: "RADIUS",
    1646: "RADIUS accounting",
    1812: "RADIUS",
    1813: "RADIUS accounting",
    2049: "NFS",
    3478: "STUN",
    5060: "SIP",
    11211: "memcached",
}
"""Protocols in which a server answers every client that it serves, from the port that was asked."""

ONE_WAY = {
    7: "wake-on-LAN",
    9: "wake-on-LAN",
    162: "SNMP traps",
    514: "syslog",
    2055: "NetFlow",
    2152: "GTP-U",
    4739: "IPFIX",
    4789: "VXLAN",
    5004: "RTP",
    5005: "RTCP",
    6081: "Geneve",
    6343: "sFlow",
    8125: "statsd",
    8472: "VXLAN",
    9995: "NetFlow",
    9996: "NetFlow",
    12201: "GELF",
    25826: "collectd",
}
"""Protocols in which nobody answers."""

SPECULATIVE = {137, 138, 319, 320, 1900, 3544, 3702, 5350, 5351, 5353, 5355}
"""Asked on the off chance: NetBIOS, PTP, SSDP, Teredo, WS-Discovery, NAT-PMP and PCP, mDNS, LLMNR. That
somebody does not speak these is no fault."""

ASKED_AS_GROUP = {67, 68, 137, 138, 546, 547, 1900, 3702, 5353, 5355}
"""Asked by broadcast or multicast, so that none of a host's addresses was asked, and the source of the answer
does not matter: DHCP, NetBIOS, SSDP, WS-Discovery, mDNS, LLMNR."""

OTHER_PORT = {69, 1701, 1900, 3478, 34964}
"""Answer from another port by design: TFTP (RFC 1350, section 4), L2TP (RFC 2661, section 8.1), SSDP, STUN
when it is asked to (RFC 5780, section 7.2), PROFINET. What refuses such an answer had merely gone."""

FIRST_CLIENT_PORT = 512
"""Not even rresvport(3) and bindresvport(3) give a client a lower port."""
FIRST_UNPRIVILEGED = 1024
EPHEMERAL = range(32768, 65536)
"""From which systems give ports to clients: Linux up to 60999 (ip_local_port_range), others from 49152."""

TRACED = {*range(33434, 33634), *range(44444, 44544)}
"""Where traceroute and tracepath send their probes, a port further each time."""


def is_service(port: int) -> bool:
    return 0 < port < FIRST_UNPRIVILEGED or port in ANSWERING or port in ONE_WAY or port in SPECULATIVE


def is_group(address: Address) -> bool:
    """Multicast or broadcast. Whether an address that ends in 255 is its subnet's, the wire does not tell."""
    named = isinstance(address, NamedIPv4)  # what stands for its name says nothing
    return address.is_multicast or (address.version == 4 and not named and address.packed[-1] == 255)


def is_own(address: Address) -> bool:
    """Loopback, which every host has; by tcpdump's name for it, too."""
    if isinstance(address, NamedIPv4 | NamedIPv6):
        return address.name in ("localhost", "ip6-localhost")
    return address.is_loopback


def reversed_ends(client: Endpoint, server: Endpoint) -> bool:
    """The "client" is the server: the capture began after the request."""
    return is_service(client.port) and not is_service(server.port)


def may_be_reversed(client: Endpoint, server: Endpoint, *, heard: bool) -> bool:
    """The second port is more like a client's than the first; `heard`: datagrams tell who spoke first."""
    return server.port in EPHEMERAL and (client.port not in EPHEMERAL or not heard)
