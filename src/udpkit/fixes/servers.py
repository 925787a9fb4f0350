"""How common servers are told to wait on one address, by the name of their process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from udpkit.diagnosis import Finding
from udpkit.fixes.fix import fill, values


@dataclass(frozen=True, slots=True)
class Hint:
    """`where` the setting belongs, and `line`, its text, both with the placeholders of `values`, with `name`,
    the program's, with `host`, the address as it stands before a port, and with `own_host`, the same as the
    socket's family writes it.
    `instead` is a setting with which the program answers every client from the address that was asked, so
    that no address needs to be named."""

    where: str
    line: str
    instead: str = ""


NAMED_CONF = "listen-on{-v6} port {port} { {address}; };"
SERVERS: Mapping[str, Hint] = {
    "asterisk": Hint("pjsip.conf, in the transport", "bind={host}:{port}"),
    "chronyd": Hint("chrony.conf", "bindaddress {address}"),
    "coredns": Hint("Corefile, in the server block", "bind {address}"),
    "dnsmasq": Hint(
        "dnsmasq.conf",
        "listen-address={address} and bind-interfaces",
        "bind-dynamic: one socket for each address, also for those that come later",
    ),
    "freeradius": Hint(
        "radiusd.conf, in listen { }", "ip{six_v}addr = {address}", "built with --with-udpfromto it is right"
    ),
    "in.tftpd": Hint("{name}'s command line", "--address {host}:{port}"),
    "iperf3": Hint("{name}'s command line", "iperf3 -s -B {address} -p {port}"),
    "kamailio": Hint("kamailio.cfg", "listen=udp:{host}:{port}"),
    "knotd": Hint("knot.conf, in server", "listen: {address}@{port}"),
    "memcached": Hint("memcached.conf, or the command line", "-l {address} -U {port}"),
    "named": Hint(
        "named.conf, in options { }",
        NAMED_CONF,
        "interface-interval: by default it has one socket for each address, and looks for new ones",
    ),
    "nc": Hint("{name}'s command line", "nc -{six}ul {address} {port}"),
    "ncat": Hint("{name}'s command line", "ncat -{six}ul {address} {port}"),
    "nc.traditional": Hint("{name}'s command line", "-s {address}"),
    "nsd": Hint("nsd.conf, in server", "ip-address: {address}@{port}"),
    "ntpd": Hint("ntp.conf", "interface listen {address}"),
    "openvpn": Hint("{name}'s configuration", "local {address}", "multihome"),
    "pdns_recursor": Hint("recursor.conf", "local-address={host}:{port}"),
    "pdns_server": Hint("pdns.conf", "local-address={host}:{port}"),
    "rsyslogd": Hint("rsyslog.conf", 'input(type="imudp" address="{address}" port="{port}")'),
    "snmpd": Hint("snmpd.conf", "agentAddress udp{six}:{host}:{port}"),
    "socat": Hint("{name}'s command line, after the port", ",bind={own_host}"),
    "strongswan": Hint(
        "strongswan.conf, in charon { }",
        "interfaces_use = the interface of {address}",
        "charon chooses the source itself: look for marks and policy rules",
    ),
    "syslog-ng": Hint("syslog-ng.conf, in source", 'network(transport("udp") ip("{address}") port({port}))'),
    "systemd-resolved": Hint("resolved.conf", "DNSStubListenerExtra=udp:{host}:{port}"),
    "turnserver": Hint("turnserver.conf", "listening-ip={address}"),
    "unbound": Hint(
        "unbound.conf, in server",
        "interface: {address}@{port}",
        "interface-automatic: yes",
    ),
}
"""Settings of the programs' own manual pages."""

ALIASES = {
    "charon": "strongswan",
    "charon-systemd": "strongswan",
    "nc.openbsd": "nc",
    "netcat": "nc",
    "socat1": "socat",
    "systemd-resolve": "systemd-resolved",
    "tftpd": "in.tftpd",
}
"""Other names of the same programs; the kernel keeps fifteen characters."""


def hint(finding: Finding) -> str | None:
    """What to write where, for the finding's process; None for programs that are not in the table, and where
    the finding does not tell the address or the port that are asked."""
    name = re.split(r"[\[ (]", finding.process or "", maxsplit=1)[0]
    name = ALIASES.get(name, name)
    known = SERVERS.get(name)
    if known is None:
        return None
    words = values(finding)
    if not {"address", "port"} <= words.keys():
        return None
    six = bool(words["six"])
    dual = not six and finding.listener and finding.listener.address.version == 6
    host = f"[{words['address']}]" if six else words["address"]
    words |= {
        "name": name,
        "host": host,
        "own_host": f"[::ffff:{host}]" if dual else host,
        "six_v": "v6" if six else "",
    }
    line = fill(known.line.replace("{-v6}", "-v6" if six else ""), words)
    either = f"; or {known.instead}" if known.instead else ""
    return f"{fill(known.where, words)}: {line}{either}"
