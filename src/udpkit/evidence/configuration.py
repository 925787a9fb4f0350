"""How a namespace is set up: links, addresses, routes, rules, sysctls, firewall, conntrack entries.

Everything is kept in the words of the program that shows it, since the same program takes them back:
`ip … show` and `ip … append`, iptables-save and iptables-restore, `nft list table` and
`nft -f`. Nothing is changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from udpkit.evidence.namespaces import Namespace, inside
from udpkit.evidence.nat.listing import has_ipvs, savers
from udpkit.evidence.programs import find, output
from udpkit.evidence.routes import ask_ip, local_addresses, run_ip, source_choices
from udpkit.facts import LocalAddress, SourceChoice

FAMILIES = ("-4", "-6")
MOST_LINES = 10_000
"""Routes, rules, neighbours and conntrack entries that are kept of each kind; a router may have a million."""

GLOBAL_SYSCTLS = """
    core/rmem_default core/rmem_max core/wmem_default core/wmem_max
    ipv4/ip_forward ipv4/ip_nonlocal_bind ipv4/ip_local_port_range ipv4/ip_local_reserved_ports
    ipv4/ip_unprivileged_port_start ipv4/ip_no_pmtu_disc ipv4/ip_forward_use_pmtu ipv4/icmp_ratelimit
    ipv4/icmp_ratemask ipv4/icmp_echo_ignore_all ipv4/icmp_errors_use_inbound_ifaddr ipv4/fwmark_reflect
    ipv4/fib_multipath_hash_policy ipv4/fib_multipath_use_neigh ipv4/udp_l3mdev_accept ipv4/udp_early_demux
    ipv4/udp_rmem_min ipv4/udp_wmem_min
    ipv6/bindv6only ipv6/ip_nonlocal_bind ipv6/fwmark_reflect ipv6/icmp/ratelimit ipv6/icmp/ratemask
    ipv6/fib_multipath_hash_policy
    netfilter/nf_conntrack_udp_timeout netfilter/nf_conntrack_udp_timeout_stream
    netfilter/nf_conntrack_max netfilter/nf_conntrack_checksum
""".split()  # noqa: SIM905 - a list of them fills a page
"""Below /proc/sys/net: what decides about a datagram, its answer, and ICMP errors (ip-sysctl.rst)."""

INTERFACE_SYSCTLS = {
    "ipv4": """
        forwarding rp_filter accept_local route_localnet src_valid_mark ignore_routes_with_linkdown
        arp_ignore arp_announce arp_filter arp_accept proxy_arp accept_source_route bc_forwarding
        promote_secondaries send_redirects accept_redirects secure_redirects shared_media log_martians
    """.split(),  # noqa: SIM905
    "ipv6": """
        disable_ipv6 forwarding accept_ra accept_redirects accept_source_route proxy_ndp use_tempaddr
        ignore_routes_with_linkdown
    """.split(),  # noqa: SIM905
}

TRANSIENT = re.compile(
    r" (?:linkdown|dead|(?:rt_)?offload|(?:rt_)?trap|unresolved|\[detached\]|expires \S+|error -?\d+)(?= |$)"
    r"|\\"
)
"""What ip(8) shows of routes and rules, but does not take."""


@dataclass(frozen=True, slots=True)
class Link:
    """An interface. `addresses` are what follows `ip address replace`; `kind` is empty for hardware.

    `carrier`: something is at the other end. `table` is a VRF's. `mac` is None where it is no Ethernet.
    """

    name: str
    index: int
    kind: str
    up: bool
    carrier: bool
    mtu: int
    mac: str | None
    master: str | None
    table: int | None
    addresses: Sequence[str]


@dataclass(frozen=True, slots=True)
class Configuration:
    """One network namespace. `routes` and `rules` are lines of ip(8) by family, `-4` and `-6`.

    `rules` have their preference first: `100: from all …`. `sysctls` are by path below /proc/sys/net, in the
    order in which they can be set. `iptables` are texts with the program that restores them, `nftables` with
    the table's name; `tracked` is what `conntrack --load-file` takes. `missing` has a sentence for each thing
    that could not be seen.
    """

    links: Sequence[Link]
    nexthops: Sequence[str]
    routes: Mapping[str, Sequence[str]]
    rules: Mapping[str, Sequence[str]]
    neighbours: Sequence[str]
    sysctls: Mapping[str, str]
    iptables: Sequence[tuple[str, str]]
    nftables: Sequence[tuple[str, str]]
    tracked: str
    addresses: Sequence[LocalAddress]
    choices: Sequence[SourceChoice]
    missing: Sequence[str]


def read_configuration(namespace: Namespace) -> Configuration:
    """Look at a namespace. Raises OSError if it cannot be entered, and NoIp."""
    return inside(namespace, _read)


def _read() -> Configuration:
    missing: list[str] = []
    links = _links(missing)
    addresses = local_addresses()
    iptables, nftables = _firewall(missing)
    if has_ipvs():
        missing.append("IPVS services are not copied")
    if run_ip(["xfrm", "policy", "show"], "").strip():
        missing.append("IPsec policies are not copied")
    return Configuration(
        links=links,
        nexthops=[line.partition(" scope ")[0] for line in _lines("nexthops", missing, "nexthop", "show")],
        routes={
            family: _lines("routes", missing, family, "route", "show", "table", "all") for family in FAMILIES
        },
        rules={family: _lines("rules", missing, family, "rule", "show") for family in FAMILIES},
        neighbours=_lines("neighbours", missing, "neighbour", "show", "nud", "permanent"),
        sysctls=dict(_sysctls([link.name for link in links])),
        iptables=iptables,
        nftables=nftables,
        tracked=_tracked(missing),
        addresses=addresses,
        choices=source_choices(addresses)[0],
        missing=missing,
    )


def _links(missing: list[str]) -> list[Link]:
    links = []
    addresses = {told.get("ifname"): told.get("addr_info", []) for told in ask_ip("address", "show")}
    for told in ask_ip("-details", "link", "show"):
        name, info = str(told["ifname"]), told.get("linkinfo", {})
        if re.search(r"[\"'#\\]", name):
            missing.append(f"interface {name}: ip(8) cannot be told its name")
            continue
        if told.get("xdp"):
            missing.append(f"{name}: its XDP program is not copied")
        flags = told.get("flags", [])
        ethernet = told.get("link_type") == "ether"
        links.append(
            Link(
                name=name,
                index=int(told["ifindex"]),
                kind="loopback" if "LOOPBACK" in flags else str(info.get("info_kind", "")),
                up="UP" in flags,
                carrier="LOWER_UP" in flags and "NO-CARRIER" not in flags,
                mtu=int(told.get("mtu", 1500)),
                mac=str(told["address"]) if ethernet and "address" in told else None,
                master=str(told["master"]) if "master" in told else None,
                table=info.get("info_data", {}).get("table") if info.get("info_kind") == "vrf" else None,
                addresses=[_address(name, one) for one in addresses.get(name, ()) if "local" in one],
            )
        )
    return links


def _address(name: str, told: Mapping[str, Any]) -> str:
    """Lifetimes are left out: the copy does not live that long, and nobody renews them there."""
    words = [str(told["local"])]
    if peer := told.get("address"):
        words += ["peer", str(peer)]
    words[-1] += f"/{told['prefixlen']}"
    for key, word in (
        ("broadcast", "broadcast"),
        ("scope", "scope"),
        ("label", "label"),
        ("metric", "metric"),
    ):
        if key in told:
            words += [word, str(told[key])]
    if told.get("noprefixroute"):
        words.append("noprefixroute")
    if told.get("deprecated"):
        words += ["preferred_lft", "0"]
    if told.get("family") == "inet6":
        words.append("nodad")
    return f"{' '.join(words)} dev {name}"


def _lines(what: str, missing: list[str], *arguments: str) -> list[str]:
    lines = as_taken(run_ip(["-oneline", *arguments], ""))
    if len(lines) > MOST_LINES:
        missing.append(f"of {len(lines)} {what} only {MOST_LINES} are copied")
    return lines[:MOST_LINES]


def as_taken(shown: str) -> list[str]:
    """Lines that `ip -oneline … show` printed, in the words that `ip … add` takes."""
    lines = shown.replace("lookup [l3mdev-table]", "l3mdev").splitlines()
    return [" ".join(TRANSIENT.sub(" ", line).split()) for line in lines]


def _sysctls(interfaces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Those of all interfaces first: setting them changes the single ones."""
    paths = list(GLOBAL_SYSCTLS)
    for interface in ("all", "default", *interfaces):
        paths += [
            f"{family}/conf/{interface}/{name}"
            for family, names in INTERFACE_SYSCTLS.items()
            for name in names
        ]
    for path in paths:
        with suppress(OSError, UnicodeDecodeError):  # this kernel has no such one
            yield path, Path(f"/proc/sys/net/{path}").read_text().strip()


def _firewall(missing: list[str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    saved: list[tuple[str, str]] = []
    by_iptables: set[str] = set()
    for family, program in (("ip", "iptables"), ("ip6", "ip6tables")):
        for saver in savers(family, program):
            text = output(saver)
            if text is None:
                missing.append(f"the rules of {program} could not be read: root reads them")
                continue
            if tables := re.findall(r"^\*(\w+)$", text, re.MULTILINE):
                saved.append((Path(saver).name.replace("-save", "-restore"), text))
            if "legacy" not in str(Path(saver).resolve()):
                by_iptables |= {f"{family} {table}" for table in tables}
    nft = find("nft")
    tables = (output(nft, "list", "tables") or "").splitlines() if nft else []
    names = [line.removeprefix("table ").strip() for line in tables]
    listed: list[tuple[str, str]] = []
    for name in names:
        if name not in by_iptables and nft:
            if text := output(nft, "-s", "list", "table", *name.split()):
                listed.append((name, text))
            else:
                missing.append(f"nft table {name} could not be read")
    if nft and output(nft, "list", "tables") is None:
        missing.append("the rules of nft could not be read: root reads them")
    if not nft and not find("iptables-save"):
        missing.append("firewall rules could not be read: neither iptables-save nor nft is installed")
    return saved, listed


def _tracked(missing: list[str]) -> str:
    """UDP entries, with their zones."""
    conntrack = find("conntrack")
    if not Path("/proc/thread-self/net/stat/nf_conntrack").exists():
        return ""
    if not conntrack or (text := output(conntrack, "-L", "-p", "udp", "-o", "save")) is None:
        why = "root reads them" if conntrack else "the program conntrack is not installed"
        missing.append(f"conntrack's entries could not be read: {why}")
        return ""
    return "".join(f"{line}\n" for line in text.splitlines()[:MOST_LINES])
