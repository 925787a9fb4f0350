"""Socket tables as people paste them: ss(8), netstat(8), lsof(8) and /proc/net/udp, one or several in a text.

Theory of operation. Each line is a row of one of the four, a header, or something else, which is passed over.
A new table begins where a header stands that the present table has had, and where a socket appears again:
the same inode (ss -e, /proc), or the same descriptor of the same process (ss, lsof). netstat shows neither;
where rows stand there without a header, a program that waits on a port and further down is connected on it
is taken for one socket at two moments. In one table it would be the other way round: in its hash chain the
kernel puts newer sockets first (udp_lib_get_port() in net/ipv4/udp.c).
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from udpkit import _native
from udpkit.evidence.proc_net import proc_net_udp_row
from udpkit.facts import Address, Endpoint, NamedIPv4, NamedIPv6, Reference, SocketEntry, SocketTable

LONGEST_LINE = 4096
"""Characters; what stands behind them is not looked at."""
MOST_ENTRIES = 200_000
"""Of one text. Further rows are passed over."""

HEADERS = {
    "ss": re.compile(r"^(?:Netid +)?(?:State +)?Recv-Q +Send-Q +Local Address:Port\b"),
    "netstat": re.compile(r"^Proto +Recv-Q +Send-Q +Local Address\b"),
    "lsof": re.compile(r"^COMMAND +PID\b.* NODE +NAME *$"),
    "udp": re.compile(r"^ *sl +local_address +rem_address +st "),
    "udp6": re.compile(r"^ *sl +local_address +remote_address +st "),
}
"""By kind of table; /proc/net/udp and udp6 stand one after the other and are one."""
HEADER_WORDS = ("Local Address", "COMMAND", "local_address")
"""One of them is in each."""

SS = re.compile(
    r"^ *(?:(?P<net>[a-z]\w{0,9}) +)?(?:(?P<state>[A-Z][A-Z0-9-]{2,11}) +)?\d{1,10} +\d{1,10} +"
    r"(?P<local>\S+) +(?P<peer>\S+)(?P<rest>(?:\s.*)?)$",
    re.ASCII,
)
SS_USER = re.compile(r'\("((?:[^"\\]|\\.)*)",(?:pid=)?(\d{1,10}),(?:fd=)?(\d{1,10})\)', re.ASCII)
SS_MEMORY = re.compile(r"\bskmem:\(r(\d{1,10}),.*?\bd(\d{1,20})\)", re.ASCII)
SS_INODE = re.compile(r"\bino:(\d{1,20})\b", re.ASCII)
SS_V6ONLY = re.compile(r"\bv6only:([01])\b")
SS_OLD = re.compile(r"^(?:\S+ +){2,4}(?:\S+ +)?:::", re.MULTILINE)
"""Before iproute2 4.15 `*` was the IPv4 wildcard, and IPv6's was `::`."""
UDP_STATES = {"UNCONN", "ESTAB", None}

NETSTAT = re.compile(
    r"^ *udp(?P<six>6?) +\d{1,10} +\d{1,10} +(?P<local>\S+) +(?P<peer>\S+)(?P<rest>(?: .*)?)$", re.ASCII
)
NETSTAT_PROGRAM = re.compile(r"(?:^| )(\d{1,10})/(.*?) *$", re.ASCII)
NETSTAT_INODE = re.compile(r"^ +(?:ESTABLISHED +)?[^ /]+ +(\d{1,20}) ", re.ASCII)
NETSTAT_CUT = 23
"""Characters of an endpoint; a longer address is cut so that it fits with its port (addr_do_one())."""

NAME = re.compile(r"^[\w.:-]{1,253}$", re.ASCII)
"""A host's, or an IPv6 address that was cut."""

LSOF = re.compile(
    r"^(?P<process>\S+) +(?P<pid>\d{1,10}) .*?\b(?P<fd>\d{1,10})[a-zA-Z]* +(?:IPv|inet)(?P<version>[46]?) +"
    r"(?P<device>\S+) +(?:\S+ +)?UDP +(?P<ends>\S+)\s*$",
    re.ASCII,
)


QUOTED = re.compile(r"^\s*(?:(?://|->|[>|#])\s*)+")
"""What mail, comments and notes put before each line."""
PROC_NET = re.compile(r"/proc/(?:\S+/)?net/(\w+)")


@dataclass(slots=True)
class Row:
    """A socket, and what tells it from others of its table: an inode, or a process and its descriptor."""

    entry: SocketEntry
    kind: str
    identity: tuple[object, ...] | None = None
    foreign: bool = False
    """Of another protocol; its table may not say which rows are ours."""


@dataclass(slots=True)
class Part:
    """The table that is being read."""

    headers: set[str] = field(default_factory=set)
    identities: set[tuple[object, ...]] = field(default_factory=set)
    waiting: set[tuple[str | None, int | None, int]] = field(default_factory=set)
    entries: list[SocketEntry] = field(default_factory=list)
    foreign: bool = False

    def goes_on_with(self, row: Row) -> bool:
        """False where this socket is in the table already: it is the next table's."""
        if row.identity is not None:
            return row.identity not in self.identities
        entry = row.entry
        connected = entry.peer is not None and entry.pid is not None and not self.headers
        return not (connected and (entry.process, entry.pid, entry.local.port) in self.waiting)

    def take(self, row: Row) -> None:
        entry = row.entry
        self.foreign |= row.foreign
        if row.foreign:
            return
        if row.identity is not None:
            self.identities.add(row.identity)
        if entry.peer is None:
            self.waiting.add((entry.process, entry.pid, entry.local.port))
        self.entries.append(entry)


def is_sockets(head: str) -> bool:
    """Whether a text that begins so holds a socket table: a header or a row of one."""
    reader = _Reader(0)
    # Ports may have names here that nobody knows.
    return any(
        _header(line) or reader.row(line, 1) or LSOF.match(line) for line in map(_bare, head.split("\n"))
    )


def read_socket_text(text: str, *, source: int) -> list[SocketTable]:
    """The tables in a text, in its order; empty if there is none.

    Rows whose port is a name that neither services(5) nor IANA knows are passed over. An address that is only
    a name, or was cut, is a NamedIPv4 or NamedIPv6.
    """
    reader = _Reader(source, old_ss=SS_OLD.search(text) is not None)
    parts = [Part()]
    room = MOST_ENTRIES
    for number, long_line in enumerate(text.split("\n"), start=1):
        line = _bare(long_line)
        part = parts[-1]
        if file := PROC_NET.search(line):
            reader.of_udp = file[1] in ("udp", "udp6")
        if kind := _header(line):
            both = {kind, *part.headers} == {"udp", "udp6"}
            if (part.headers or part.entries or part.foreign) and not both:
                parts.append(part := Part())
            part.headers.add(kind)
            reader.ss_header |= kind == "ss"
        elif row := reader.row(line, number):
            if not part.goes_on_with(row):
                parts.append(part := Part())
            if room > 0:
                part.take(row)
                room -= 1
        elif part.entries and "skmem:" in line:
            part.entries[-1] = _with_memory(part.entries[-1], line)
    return [SocketTable(part.entries) for part in parts if part.entries and not part.foreign]


def _bare(line: str) -> str:
    return QUOTED.sub("", line[:LONGEST_LINE].rstrip("\r"))


def _header(line: str) -> str | None:
    """The kind of table that begins with this line."""
    if not any(word in line for word in HEADER_WORDS):
        return None
    return next((kind for kind, header in HEADERS.items() if header.match(line)), None)


class _Reader:
    def __init__(self, source: int, *, old_ss: bool = False) -> None:
        self.source = source
        self.ss_header = False
        """Seen one: rows without a state column are ss's, too."""
        self.of_udp = True
        """False below `cat /proc/net/icmp` and the like, whose rows look the same."""
        self.star = "0.0.0.0" if old_ss else "::"  # noqa: S104 - what ss writes as *

    def row(self, line: str, number: int) -> Row | None:
        """A row of any of the tables; None if the line is none."""
        seen = Reference(self.source, line=number)
        if entry := proc_net_udp_row(line, seen):
            return Row(entry, "proc", (entry.inode,) if entry.inode else None) if self.of_udp else None
        with suppress(ValueError):
            if "UDP" in line and (match := LSOF.match(line)):
                return self.lsof(match, seen)
            if "udp" in line and (match := NETSTAT.match(line)):
                return self.netstat(match, seen)
            if match := SS.match(line):
                return self.ss(match, seen)
        return None

    def ss(self, match: re.Match[str], seen: Reference) -> Row | None:
        state, rest, net = match["state"], match["rest"], match["net"]
        if net not in (None, "udp") or (state is None and not self.ss_header):
            return None
        local, device = self.endpoint(match["local"], self.star)
        if local is None:
            return None
        peer, _ = self.endpoint(match["peer"], self.star)
        user = SS_USER.search(rest)
        inode = SS_INODE.search(rest)
        v6only = SS_V6ONLY.search(rest)
        entry = SocketEntry(
            seen,
            local,
            None if state == "UNCONN" else peer,
            inode=int(inode[1]) if inode else None,
            process=user[1] if user else None,
            pid=int(user[2]) if user else None,
            device=device,
            options={"IPV6_V6ONLY": int(v6only[1])} if v6only else {},
        )
        identity = (entry.inode,) if inode else (entry.pid, int(user[3])) if user else None
        return Row(_with_memory(entry, rest), "ss", identity, net is None and state not in UDP_STATES)

    def netstat(self, match: re.Match[str], seen: Reference) -> Row | None:
        six = bool(match["six"])
        local, device = self.endpoint(match["local"], six=six, cut=NETSTAT_CUT)
        if local is None:
            return None
        peer, _ = self.endpoint(match["peer"], six=six, cut=NETSTAT_CUT)
        program = NETSTAT_PROGRAM.search(match["rest"])
        inode = NETSTAT_INODE.match(match["rest"])
        entry = SocketEntry(
            seen,
            local,
            peer,
            inode=int(inode[1]) if inode else None,
            process=program[2] if program else None,
            pid=int(program[1]) if program else None,
            device=device,
        )
        return Row(entry, "netstat", (entry.inode,) if inode else None)

    def lsof(self, match: re.Match[str], seen: Reference) -> Row | None:
        six = match["version"] == "6"
        star = "::" if six else "0.0.0.0"  # noqa: S104
        local_text, arrow, peer_text = match["ends"].partition("->")
        local, device = self.endpoint(local_text, star, six=six)
        if local is None:
            return None
        peer, _ = self.endpoint(peer_text, star, six=six) if arrow else (None, "")
        entry = SocketEntry(
            seen,
            local,
            peer,
            inode=int(match["device"]) if match["device"].isdecimal() and len(match["device"]) < 21 else None,
            process=match["process"],
            pid=int(match["pid"]),
            device=device,
        )
        return Row(entry, "lsof", (entry.pid, int(match["fd"])))

    def endpoint(
        self, text: str, star: str = "", *, six: bool = False, cut: int = 0
    ) -> tuple[Endpoint | None, str]:
        """The endpoint, None for port `*`, and the interface behind `%`. Raises ValueError.

        star: what an address `*` stands for. six: a socket of IPv6. cut: the width of a column in which long
        addresses are cut.
        """
        host, colon, port = text.rpartition(":")
        if not colon:
            raise ValueError(text)
        if port and not port.strip("*"):  # some web pages make more of one
            return None, ""
        host, _, device = host.partition("%")
        host, device = host.removeprefix("[").removesuffix("]"), device.removesuffix("]")
        if host == "*":
            host = star
        doubtful = len(text) == cut and ":" in host
        address = _address(host, six=six, doubtful=doubtful)
        if isinstance(address, IPv6Address) and address.is_link_local and device:
            return Endpoint(IPv6Address(f"{address}%{device}"), self.port(port)), ""
        return Endpoint(address, self.port(port)), device

    def port(self, text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) <= 5 and int(text) < 65536:
            return int(text)
        number = _native.udp_port(text)
        if number is None:
            raise ValueError(text)
        return number


def _address(text: str, *, six: bool, doubtful: bool) -> Address:
    """An address, or what stands for a name. doubtful: its end may be missing. Raises ValueError."""
    if not doubtful:
        with suppress(ValueError):
            address = ip_address(text)
            # netstat and lsof write the IPv4 addresses of IPv6 sockets without their prefix.
            return IPv6Address(f"::ffff:{address}") if six and address.version == 4 else address
    if text in ("localhost", "ip6-localhost"):
        return ip_address("::1" if six or text != "localhost" else "127.0.0.1")
    if not NAME.match(text):
        raise ValueError(text)
    # FNV-1a, as crates/text has it: the same name has the same address in every text.
    digest = 0xCBF29CE484222325
    for byte in text.lower().encode():
        digest = (digest ^ byte) * 0x100000001B3 & (1 << 64) - 1
    if six or ":" in text:
        return NamedIPv6(int(IPv6Address("100::")) | digest, f"{text}…" if doubtful else text)
    return NamedIPv4(int(IPv4Address("240.0.0.0")) | (digest ^ digest >> 32) % 0x0FFFFFFF, text)


def _with_memory(entry: SocketEntry, text: str) -> SocketEntry:
    """With what `ss -m` tells; a line of its own follows the socket's."""
    memory = SS_MEMORY.search(text)
    return replace(entry, queued=int(memory[1]), drops=int(memory[2])) if memory else entry
