"""A lab copy of a host: interfaces, addresses, routes, rules, sysctls and firewall, and clients around it.

Theory of operation. What can be read of a network namespace is built again in one of a lab, on the same
kernel, so that it decides as the original would. Hardware, and links to elsewhere, become cables with the
same name, index, address and MTU; at their other ends stand hosts of the lab's own: a client in each network
that the original has a route to, behind a router with the gateway's address where there is one. Nothing of
the original is touched, and the copy goes with its lab.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from udpkit.evidence.configuration import FAMILIES, Configuration, Link, as_taken
from udpkit.facts import Address, SourceChoice
from udpkit.lab.errors import CommandFailed, ProgramMissing
from udpkit.lab.host import Host
from udpkit.lab.lab import Lab

COPY = "server"
"""The name of the host that is the copy."""
NATIVE = ("bridge", "dummy", "vrf")
"""Kinds of links that are made again; all others become cables, which routes cannot tell from them."""
CABLES = ("", "veth")
"""Kinds for which that is no loss: what they lead to is outside anyway."""
MOST_PEERS = 32
PATIENCE = 60
"""Seconds that a program has to take in a long list."""
FAILED = re.compile(r"Command failed -:(\d+)")
MOST_RULES = 1000
"""Firewall rules that are tried one by one."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A client in a network, on a host of its own. `router` is the name of the one that is between."""

    name: str
    network: str
    address: Address
    interface: str
    router: str | None


@dataclass(slots=True)
class Mirror:
    """The copy, its clients, and a sentence for each thing that could not be copied."""

    host: Host
    peers: list[Peer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build(lab: Lab, original: Configuration, choices: Sequence[SourceChoice] | None = None) -> Mirror:
    """Build the copy in a lab, with a client for each of `choices`, by default all. Raises LabError."""
    mirror = Mirror(lab.host(COPY), notes=[*original.missing])
    builder = _Builder(lab, original, mirror)
    wanted = original.choices if choices is None else choices
    if len(wanted) > MOST_PEERS:
        mirror.notes.append(f"of {len(wanted)} networks only {MOST_PEERS} have a client")
    builder.sysctls(per_interface=False)
    builder.neighbourhood(wanted[:MOST_PEERS])
    builder.links()
    builder.sysctls(per_interface=True)
    builder.addresses()
    builder.routes()
    builder.rules()
    builder.firewall()
    builder.connections()
    return mirror


class _Builder:
    def __init__(self, lab: Lab, original: Configuration, mirror: Mirror) -> None:
        self.lab, self.original, self.mirror = lab, original, mirror
        self.host = mirror.host
        self.segments: dict[str, list[Host]] = {}
        """The hosts at the other end of each interface's cable."""
        self.cables = 0
        self.settings: list[tuple[Host, str, str]] = []
        """Lines of ip(8) for hosts that have no cable yet."""

    def note(self, sentence: str) -> None:
        self.mirror.notes.append(sentence)

    def sysctls(self, *, per_interface: bool) -> None:
        """Only those that differ: some belong to the whole machine, and cannot be written here."""
        for path, value in self.original.sysctls.items():
            single = "/conf/" in path and path.split("/")[2] not in ("all", "default")
            if single != per_interface:
                continue
            with suppress(OSError):  # such as before its module is loaded
                if self.host.read(f"/proc/sys/net/{path}").strip() == value:
                    continue
                try:
                    self.host.sysctl(f"net/{path}", value)
                except CommandFailed as error:
                    self.note(f"sysctl net/{path}={value}: {str(error).rpartition(': ')[2]}")

    # Who is around.

    def neighbourhood(self, choices: Iterable[SourceChoice]) -> None:
        routers: dict[tuple[str, Address], Host] = {}
        choices = list(choices)
        taken = {choice.gateway for choice in choices} | {one.address for one in self.original.addresses}
        links = {link.name: link for link in self.original.links}
        for choice in choices:
            link = links.get(choice.interface)
            if link is None or link.kind in ("loopback", "dummy"):
                self.note(f"{choice.network}: nobody can be behind {choice.interface}")
                continue
            if not link.carrier and link.kind != "bridge":
                self.note(f"{choice.network}: {link.name} has no carrier, so nobody is behind it")
                continue
            number = len(self.mirror.peers) + 1
            client = self.lab.host(f"client{number}")
            router, address = None, choice.asked
            if choice.gateway is None:
                address = _free(choice, taken)
                taken.add(address)
                self._on_link(client, link, address, choice.network.prefixlen)
            else:
                router = routers.get((link.name, choice.gateway))
                if router is None:
                    router = routers[link.name, choice.gateway] = self._router(
                        link, choice.gateway, len(routers)
                    )
                self._behind(router, client, address, number)
            self.mirror.peers.append(
                Peer(client.name, str(choice.network), address, link.name, router.name if router else None)
            )

    def _on_link(self, host: Host, link: Link, address: Address, length: int) -> None:
        """`host` gets the address on the link, and by it a way to the copy; set when its cable is laid."""
        self.segments.setdefault(link.name, []).append(host)
        own = [one for one in self.original.addresses if one.address.version == address.version]
        here = [one.address for one in own if one.interface == link.name and address in one.network]
        here += [one.address for one in own if one.interface == link.name]
        here += [one.address for one in own if not one.address.is_loopback]
        nodad = " nodad" if address.version == 6 else ""
        lines = [f"address add {address}/{length} dev eth0{nodad}", "link set eth0 up"]
        lines += [f"route add default via {one} dev eth0 onlink" for one in here[:1]]
        self.settings += [(host, f"-{address.version}", line) for line in lines]

    def _router(self, link: Link, gateway: Address, number: int) -> Host:
        router = self.lab.host(f"router{number + 1}")
        router.sysctl("net.ipv4.ip_forward", 1)
        with suppress(CommandFailed):  # a kernel without IPv6
            router.sysctl("net.ipv6.conf.all.forwarding", 1)
        networks = [one.network for one in self.original.addresses if gateway in one.network]
        self._on_link(router, link, gateway, networks[0].prefixlen if networks else gateway.max_prefixlen)
        return router

    def _behind(self, router: Host, client: Host, address: Address, number: int) -> None:
        far = f"eth{number}"
        self.lab.link(client, "eth0", router, far)
        six = address.version == 6
        via = "fe80::1" if six else "169.254.0.1"
        router.address(far, f"{via}/{64 if six else 32}")
        client.address("eth0", f"{address}/{address.max_prefixlen}")
        client.ip(f"-{address.version} route add default via {via} dev eth0 onlink")
        router.ip(f"-{address.version} route add {address} dev {far}")

    # Links.

    def links(self) -> None:
        there = set(re.findall(r"^\d+: ([^:@]+)", self.host.ip("-oneline link show"), re.MULTILINE))
        made = {link.name for link in self.original.links if link.name not in there}
        bridges = {link.name for link in self.original.links if link.kind == "bridge"}
        for bridge in bridges & self.segments.keys():  # its clients plug into a port that is there
            ports = [one.name for one in self.original.links if one.master == bridge and one.carrier]
            if port := next((one for one in ports if one not in self.segments), None):
                self.segments[port] = self.segments.pop(bridge)
        native = set()
        for link in sorted(self.original.links, key=lambda one: one.kind not in NATIVE):
            if link.name not in made:
                continue
            if link.kind in NATIVE:
                try:
                    table = f" table {link.table}" if link.table else ""
                    self.host.ip(f"link add {self._named(link)} type {link.kind}{table}")
                    native.add(link.name)
                    continue
                except CommandFailed as error:
                    why = str(error).rpartition(": ")[2]
                    self.note(f"{link.name} is a cable in the copy: {link.kind}: {why}")
            elif link.up and link.kind not in CABLES:
                self.note(f"{link.name} is a cable in the copy: {link.kind} is not copied")
            self._veth(self._named(link), self.segments.get(link.name, ()), up=link.carrier)
        for bridge in bridges & self.segments.keys() & native:
            port = f"peers{self.cables}"
            self._veth(f"name {port}", self.segments[bridge], up=True)
            self.host.ip(f"link set {port} addrgenmode none")
            self.host.ip(f"link set {port} master {bridge} up")
        for link in self.original.links:
            if link.master in native:
                self.host.ip(f"link set dev {link.name} master {link.master}")
            elif link.master and link.name in made:
                self.note(f"{link.name} is not part of {link.master} in the copy")
        for host, family, line in self.settings:
            host.ip(f"{family} {line}")

    def _named(self, link: Link) -> str:
        mac = f" address {link.mac}" if link.mac else ""
        return f"name {link.name}{mac} mtu {min(link.mtu, 65535)} index {link.index}"

    def _veth(self, near: str, members: Sequence[Host], *, up: bool) -> None:
        """A cable to one host, to a switch between several, or to a network where nobody is."""
        self.cables += 1
        if len(members) == 1:
            host, far = members[0], "eth0"
        else:
            host, far = self.lab.host(f"switch{self.cables}"), "uplink"
        self.host.ip(f"link add {near} type veth peer name {far} netns {host.namespace}")
        if len(members) > 1:
            host.bridge("ports")
            host.ip(f"link set {far} master ports")
            for member in members:
                self.lab.link(member, "eth0", host, "ports")
        if up:
            host.ip(f"link set {far} up")

    # What the kernel decides by.

    def addresses(self) -> None:
        lines = []
        for link in self.original.links:
            if link.kind != "loopback":
                lines.append(f"link set dev {link.name} addrgenmode none")  # they are all in the list
        self._batch("", lines)
        lines = [f"address replace {one}" for link in self.original.links for one in link.addresses]
        lines += [f"link set dev {link.name} {'up' if link.up else 'down'}" for link in self.original.links]
        self._told(self._batch("", lines))

    def routes(self) -> None:
        self._told(self._batch("", [f"nexthop add {line}" for line in self.original.nexthops]))
        for family, lines in self.original.routes.items():
            there = as_taken(self.host.ip(f"{family} -oneline route show table all"))
            own = [line for line in there if " table local " not in f"{line} "]
            self._batch(family, [f"route del {line}" for line in own])
            wanted = [_with_nexthop(line) for line in lines if line not in there or line in own]
            wanted = [line for line in wanted if " table local proto kernel " not in line]
            self._told(self._in_any_order(family, [f"route append {line}" for line in wanted]))
        lines = [line.removesuffix("PERMANENT") + "nud permanent" for line in self.original.neighbours]
        self._told(self._batch("", [f"neighbour replace {line}" for line in lines]))

    def _in_any_order(self, family: str, lines: Sequence[str]) -> dict[str, str]:
        """A gateway needs the route to it first, wherever that stands in the list."""
        failed = self._batch(family, lines)
        while failed:
            again = self._batch(family, list(failed))
            if len(again) == len(failed):
                break
            failed = again
        return failed

    def rules(self) -> None:
        for family in FAMILIES:
            there = as_taken(self.host.ip(f"{family} -oneline rule show"))
            wanted = self.original.rules[family]
            if there != wanted:
                self._batch(family, [f"rule del pref {line.partition(':')[0]}" for line in there])
                self._told(
                    self._batch(family, [f"rule add pref {line.replace(':', '', 1)}" for line in wanted])
                )

    def _batch(self, family: str, lines: Sequence[str]) -> dict[str, str]:
        """Run lines of ip(8); answers those that failed, and why."""
        if not lines:
            return {}
        text = "".join(f"{line}\n" for line in lines)
        run = self.host.fed(text, "ip", *filter(None, [family]), "-force", "-batch", "-", timeout=PATIENCE)
        failed, why = {}, ""
        for said in run.errors.decode(errors="replace").splitlines():
            if number := FAILED.match(said):
                failed[lines[int(number[1]) - 1]] = why
                why = ""
            else:
                why = why or said.removeprefix("RTNETLINK answers: ").removeprefix("Error: ")
        return failed

    def _told(self, failed: Mapping[str, str]) -> None:
        for line, why in failed.items():
            self.note(f"ip {line}: {why}")

    # netfilter.

    def firewall(self) -> None:
        for program, text in self.original.iptables:
            self._restore(program, text.splitlines())
        for name, text in self.original.nftables:
            self._fed(f"nft table {name}", text, "nft", "-f", "-")

    def _restore(self, program: str, lines: list[str]) -> None:
        """A table is taken whole or not at all; of one that is not, the rules one by one."""
        if self._taken(program, lines) is None:
            return
        starts = [number for number, line in enumerate(lines) if line.startswith("*")]
        for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
            table = lines[start:end]
            if self._taken(program, table) is None:
                continue
            rules = [line for line in table if line.startswith("-A")]
            steps = [
                [line for line in table[1:] if line.startswith(":")],
                *([rule] for rule in rules[:MOST_RULES]),
            ]
            for step in steps:
                if why := self._taken(program, [table[0], *step, "COMMIT"], "--noflush"):
                    self.note(f"{program}: {table[0][1:]}: {' '.join(step)}: {why}")
            if len(rules) > MOST_RULES:
                self.note(
                    f"{program}: of {len(rules)} rules of {table[0][1:]} the first {MOST_RULES} were tried"
                )

    def _taken(self, program: str, lines: Sequence[str], *options: str) -> str | None:
        """None if it was, else what the program says."""
        run = self.host.fed("".join(f"{line}\n" for line in lines), program, *options, timeout=PATIENCE)
        return " ".join(run.errors.decode(errors="replace").split()) if run.status else None

    def connections(self) -> None:
        if self.original.tracked:
            self._fed("conntrack's entries", self.original.tracked, "conntrack", "--load-file", "-")

    def _fed(self, what: str, text: str, *argv: str) -> None:
        try:
            run = self.host.fed(text, *argv, timeout=PATIENCE)
        except ProgramMissing as missing:
            self.note(f"{what}: {missing}")
            return
        if run.status != 0:
            said = run.errors.decode(errors="replace").strip().splitlines()
            self.note(f"{what}: {said[0] if said else run.last_words()}")


def _free(choice: SourceChoice, taken: Collection[Address | None]) -> Address:
    """The client's address, or the next one in its network that is not a gateway's."""
    following: Iterable[Address] = itertools.islice(choice.network.hosts(), MOST_PEERS + len(taken) + 1)
    return next((one for one in [choice.asked, *following] if one not in taken), choice.asked)


def _with_nexthop(line: str) -> str:
    """A route by a nexthop object: what else is shown of it belongs to that."""
    if " nhid " not in line:
        return line
    return re.sub(r" (?:via (?:inet6? )?|dev |weight )\S+| nexthop(?= |$)", "", line)
